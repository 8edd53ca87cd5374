//! Dice: choices out of a fuzzer's bytes. When the bytes are used up every choice is the first one.

use arbitrary::Unstructured;

pub struct Dice<'a>(Unstructured<'a>);

impl<'a> Dice<'a> {
    pub fn new(bytes: &'a [u8]) -> Dice<'a> {
        Dice(Unstructured::new(bytes))
    }

    pub fn number(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// From 0 to `most`, both included.
    pub fn up_to(&mut self, most: usize) -> usize {
        self.0.int_in_range(0..=most).unwrap_or_default()
    }

    /// One in so many; never where the bytes are used up.
    pub fn one_in(&mut self, many: usize) -> bool {
        self.up_to(many - 1) == many - 1
    }

    pub fn pick<'t, T: ?Sized>(&mut self, all: &[&'t T]) -> &'t T {
        all[self.up_to(all.len() - 1)]
    }

    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let many = self.up_to(most).min(self.0.len());
        self.0.bytes(many).unwrap_or_default()
    }

    pub fn text(&mut self, most: usize) -> String {
        String::from_utf8_lossy(self.bytes(most)).into_owned()
    }
}
