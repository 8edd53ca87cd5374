//! The disk side: how long one append and its `fdatasync` take, one after the other, with nobody else in between.
//! Prints one JSON line.
//!
//! Two files in turns: one that grows with every append, as a program would do it that thinks no further, and one
//! whose blocks were written before, so that a sync has no metadata to carry.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bench::quantile;
use clap::Parser;

#[derive(Parser)]
struct Args {
    /// Where the files lie meanwhile.
    folder: PathBuf,
    /// Of one append.
    #[arg(long)]
    bytes: usize,
    #[arg(long, default_value_t = 2000)]
    count: usize,
}

fn main() {
    let args = Args::parse();
    let folder = tempfile::tempdir_in(&args.folder).expect("the folder can be written to");
    let record = vec![0x5a; args.bytes];
    let mut growing = create(&folder.path().join("growing"));
    let written = create(&folder.path().join("written"));
    (&written).write_all(&vec![0; args.bytes * args.count]).expect("the disk has room");
    written.sync_all().expect("the disk syncs");
    let (mut growing_us, mut written_us) = (Vec::new(), Vec::new());
    for number in 0..args.count {
        let started = Instant::now();
        growing.write_all(&record).expect("the disk has room");
        growing.sync_data().expect("the disk syncs");
        growing_us.push(quantile::micros(started.elapsed()));
        let started = Instant::now();
        written.write_all_at(&record, (number * args.bytes) as u64).expect("the blocks are there");
        written.sync_data().expect("the disk syncs");
        written_us.push(quantile::micros(started.elapsed()));
    }
    let told = serde_json::json!({
        "bytes": args.bytes,
        "append": quantile::told(&mut growing_us),
        "overwrite": quantile::told(&mut written_us),
    });
    println!("{told}");
}

fn create(path: &Path) -> File {
    OpenOptions::new().create_new(true).write(true).open(path).expect("a new file can be made")
}
