//! Build script of every package with user programs: link arguments of the guest binaries. The host
//! build needs none.

use std::path::Path;

fn main() {
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo");
    let mut scripts = Path::new(&package).ancestors().map(|dir| dir.join("rt/user.ld"));
    let script = scripts.find(|file| file.exists()).expect("rt/user.ld above the package");
    println!("cargo::rerun-if-changed={}", script.display());
    if std::env::var_os("CARGO_FEATURE_GUEST").is_some() {
        for arg in ["-nostdlib", "-static", "--no-pie", "-zmax-page-size=4096"] {
            println!("cargo::rustc-link-arg-bins={arg}");
        }
        println!("cargo::rustc-link-arg-bins=-T{}", script.display());
    }
}
