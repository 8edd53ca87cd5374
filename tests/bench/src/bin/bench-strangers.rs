//! `bench-strangers FOLDER`: writes every hostile component into a folder, for the bench and for whoever wants to look.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("which folder? type: bench-strangers FOLDER");
        return ExitCode::from(2);
    };
    for stranger in strangers::all() {
        let path = folder.join(stranger.name).with_extension("wasm");
        if let Err(error) = std::fs::write(&path, stranger.component()) {
            eprintln!("`{}` cannot be written: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
