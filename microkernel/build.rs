//! Link arguments of the guest binary; the host build needs none.
fn main() {
    println!("cargo::rerun-if-changed=kernel.ld");
    if std::env::var_os("CARGO_FEATURE_GUEST").is_some() {
        let dir = std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo");
        for arg in ["-nostdlib", "-static", "--no-pie", "-zmax-page-size=4096"] {
            println!("cargo::rustc-link-arg-bins={arg}");
        }
        println!("cargo::rustc-link-arg-bins=-T{dir}/kernel.ld");
    }
}
