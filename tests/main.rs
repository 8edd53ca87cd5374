//! The tests of the whole: the real binary, real HTTPS, a real disk, real components. Chapters named by verb.

mod house;
