//! Checks that the steering object in the tree was made from the sources in the tree.
//!
//! Building it needs a compiler that not every machine has (`cargo xtask ebpf`), so it is
//! kept beside a digest of its sources; a stale one does not get into a program.

use std::path::{Path, PathBuf};

include!("../ebpf/digest.rs");

const STALE: &str = "the steering object is stale: run `cargo xtask ebpf`";

fn main() -> Result<(), String> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = here.parent().ok_or("this package has no folder above it")?;
    for path in SOURCES.iter().chain(&["ebpf/digest.rs", "ebpf/object"]) {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    let object = root.join("ebpf/object/steer.o");
    check(root, &object)?;
    println!("cargo::rustc-env=STEER_OBJECT={}", object.display());
    Ok(())
}

fn check(root: &Path, object: &Path) -> Result<(), String> {
    let path = root.join("ebpf/object/steer.toml");
    let record = std::fs::read_to_string(&path)
        .map_err(|error| format!("{STALE} ({}: {error})", path.display()))?;
    let sources = digest_of_sources(root).map_err(|error| format!("steering sources: {error}"))?;
    if recorded(&record, "sources") != Some(sources.as_str()) {
        return Err(format!("{STALE} (its sources have changed)"));
    }
    let bytes = std::fs::read(object)
        .map_err(|error| format!("{STALE} ({}: {error})", object.display()))?;
    if recorded(&record, "object") != Some(digest_of(&bytes).as_str()) {
        return Err(format!("{STALE} (it is not the one that was recorded)"));
    }
    Ok(())
}
