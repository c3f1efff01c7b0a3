//! The program: reads its arguments, does what they say, and answers with an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    planewatch::cli::main()
}
