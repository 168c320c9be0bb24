//! The QEMU tests under `cargo test`: gets QEMU if it is missing, builds the guest once, then boots
//! a system for each test.

use std::process::ExitCode;

use image::{build, install, suite, workspace};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // Listing must be quick and quiet (editors do it), and so must a run for one unit test.
    let wanted = |name: &str| match &arguments.filter {
        Some(filter) if arguments.exact => name == filter,
        Some(filter) => name.contains(filter.as_str()),
        None => true,
    };
    if arguments.list || !suite::ALL.iter().any(|t| wanted(t.name)) {
        let trials = suite::ALL.iter().map(|t| Trial::test(t.name, || Ok(())));
        return libtest_mimic::run(&arguments, trials.collect()).exit_code();
    }
    let image = install::ensure()
        .map_err(|e| e.to_string())
        .and_then(|()| build::build(&workspace::manifest(), false).map_err(|e| e.to_string()));
    match image {
        Ok(image) => suite::run(suite::ALL, image, arguments).exit_code(),
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
