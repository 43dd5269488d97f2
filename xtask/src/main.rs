//! Everything CI does, as one command: `cargo xtask test`; and the benchmarks, `cargo xtask bench`.

mod bench;
mod guards;
mod readme;
mod requirement;
mod step;
mod test;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask test            everything CI does: format, lint, tests, documents, a real client
cargo xtask test --quick    the same without the parts that need Node
cargo xtask guards          takes out the guard of each promise in a copy, and sees its test go red
cargo xtask bench [ARGS]    the benchmarks
cargo xtask help            this text
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["test"] => test::main(test::Extent::Everything),
        ["test", "--quick"] => test::main(test::Extent::Quick),
        ["guards"] => test::guards_alone(),
        ["bench", ..] => bench::main(arguments.get(1..).unwrap_or_default()),
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("{HELP}");
            ExitCode::from(2)
        }
    }
}
