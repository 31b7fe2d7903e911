//! Links the guest image: nothing of the system, at a fixed address, each kind of segment on pages
//! of its own.

fn main() {
    let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".into());
    let script = format!("-Wl,-T,{dir}/link.ld");
    let flags = [
        "-nostdlib",
        "-nostartfiles",
        "-static",
        "-no-pie",
        script.as_str(),
        "-Wl,--build-id=none",
        "-Wl,-z,max-page-size=4096",
        "-Wl,-z,separate-code",
        "-Wl,-z,noexecstack",
    ];
    for flag in flags {
        println!("cargo:rustc-link-arg-bins={flag}");
    }
    println!("cargo:rerun-if-changed=link.ld");
    println!("cargo:rerun-if-changed=build.rs");
}
