//! `cargo xtask ebpf`: the steering object from its sources, and whether it is the one kept.
//!
//! Building for the BPF target needs a `core` library for it, which Debian packages
//! (`rustc-web`, `libstd-rust-web-dev-bpf`), and `bpf-linker`, which takes its LLVM from the
//! toolchain that runs cargo. The object is kept in the tree with a record of its sources.

use crate::shell;
use std::path::{Path, PathBuf};
use std::process::Command;

include!("../../ebpf/digest.rs");

const TARGET: &str = "bpfel-unknown-none";
const LINKER_VERSION: &str = "0.10.3";
/// Environment: a compiler with a `core` for the target, in place of Debian's.
const COMPILER_VARIABLE: &str = "XSWAN_BPF_RUSTC";

/// What [`verify`] found out.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Rebuilt with the recorded compiler: the same bytes.
    Same,
    /// Rebuilt with another compiler, so the bytes may differ: the object to try instead.
    OtherCompiler {
        /// Where the rebuilt object is.
        object: PathBuf,
        /// The compiler it was built with.
        compiler: String,
    },
    /// This machine cannot build for the BPF target; why.
    Unavailable(String),
}

/// `ebpf` builds the object and writes it to the tree; `ebpf verify` compares only.
///
/// # Errors
/// A sentence for the operator: what is missing, or what differs.
pub fn run(arguments: &[String]) -> Result<(), String> {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => build(),
        ["verify"] => match verify()? {
            Outcome::Same => {
                shell::say("the steering object is what its sources give");
                Ok(())
            }
            Outcome::OtherCompiler { object, compiler } => {
                shell::say(&format!("built with another compiler, {compiler}"));
                shell::say(&format!(
                    "to compare behaviour: XSWAN_STEER_OBJECT={} cargo test -p xswan-dataplane --test steer_program",
                    object.display()
                ));
                Ok(())
            }
            Outcome::Unavailable(why) => Err(why),
        },
        _ => Err("usage: cargo xtask ebpf [verify]".to_owned()),
    }
}

/// Builds the object and writes it and its record to `ebpf/object`.
fn build() -> Result<(), String> {
    let root = shell::root();
    let tools = Tools::find(&root)?;
    let built = tools.build(&root)?;
    let sources = digest_of_sources(&root).map_err(|error| format!("sources: {error}"))?;
    let record = format!(
        "# Written by `cargo xtask ebpf`, read by dataplane/build.rs.\n\
         sources = \"{sources}\"\n\
         object = \"{}\"\n\
         compiler = \"{}\"\n\
         linker = \"{}\"\n",
        digest_of(&built),
        tools.compiler_version,
        tools.linker_version,
    );
    let folder = root.join("ebpf/object");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    write(&folder.join("steer.o"), &built)?;
    write(&folder.join("steer.toml"), record.as_bytes())?;
    shell::say(&format!("ebpf/object/steer.o: {} bytes", built.len()));
    Ok(())
}

/// Rebuilds the object below `target` and compares it with the one in the tree.
///
/// # Errors
/// The record does not belong to the sources, or the same compiler gives other bytes.
pub fn verify() -> Result<Outcome, String> {
    let root = shell::root();
    let path = root.join("ebpf/object/steer.toml");
    let record =
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let sources = digest_of_sources(&root).map_err(|error| format!("sources: {error}"))?;
    if recorded(&record, "sources") != Some(sources.as_str()) {
        return Err("the steering object is stale: run `cargo xtask ebpf`".to_owned());
    }
    let tools = match Tools::find(&root) {
        Ok(tools) => tools,
        Err(why) => return Ok(Outcome::Unavailable(why)),
    };
    let built = tools.build(&root)?;
    let recorded_tools = (recorded(&record, "compiler"), recorded(&record, "linker"));
    if recorded_tools != (Some(&*tools.compiler_version), Some(&*tools.linker_version)) {
        let object = root.join("target/ebpf/steer.o");
        write(&object, &built)?;
        return Ok(Outcome::OtherCompiler { object, compiler: tools.compiler_version });
    }
    if recorded(&record, "object") != Some(digest_of(&built).as_str()) {
        return Err("the same compiler makes another steering object of these sources".to_owned());
    }
    Ok(Outcome::Same)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// What the build needs of the machine.
struct Tools {
    compiler: PathBuf,
    compiler_version: String,
    linker: PathBuf,
    linker_version: String,
    /// Folder of the LLVM library that the linker loads.
    llvm: PathBuf,
}

impl Tools {
    fn find(root: &Path) -> Result<Self, String> {
        let compiler: PathBuf = std::env::var_os(COMPILER_VARIABLE)
            .map_or_else(|| "/usr/bin/rustc".into(), PathBuf::from);
        let version = shell::read(Command::new(&compiler).arg("--version"))
            .map_err(|error| format!("{error}\n{MISSING}"))?;
        let libraries = shell::read(Command::new(&compiler).env("RUSTC_BOOTSTRAP", "1").args([
            "--print",
            "target-libdir",
            "--target",
            TARGET,
        ]))?;
        if !Path::new(libraries.trim()).is_dir() {
            return Err(format!("{} has no library for {TARGET}\n{MISSING}", compiler.display()));
        }
        let own = std::env::var_os("CARGO").map_or_else(
            || PathBuf::from("rustc"),
            |cargo| PathBuf::from(cargo).with_file_name("rustc"),
        );
        let sysroot = shell::read(Command::new(own).args(["--print", "sysroot"]))?;
        let llvm = Path::new(sysroot.trim()).join("lib");
        let linker = linker(root, &llvm)?;
        let linker_version = version_of(&linker, &llvm).ok_or("bpf-linker does not start")?;
        Ok(Self {
            compiler,
            compiler_version: version.trim().to_owned(),
            linker,
            linker_version,
            llvm,
        })
    }

    /// Builds the object and returns its bytes.
    ///
    /// Nothing of the machine gets into it: no debug information, paths replaced, flags and
    /// wrappers of the caller's environment left out.
    fn build(&self, root: &Path) -> Result<Vec<u8>, String> {
        let flags = [
            format!("-Clinker={}", self.linker.display()),
            "-Cdebuginfo=0".to_owned(),
            format!("--remap-path-prefix={}=", root.display()),
        ];
        let target = root.join("target/ebpf");
        let mut cargo = shell::cargo();
        cargo
            .args(["build", "--quiet", "--locked", "--release", "--target", TARGET])
            .arg("--target-dir")
            .arg(&target)
            .current_dir(root.join("ebpf"))
            .env("RUSTC", &self.compiler)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("LD_LIBRARY_PATH", &self.llvm);
        for variable in ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTDOC"] {
            cargo.env_remove(variable);
        }
        shell::run(&mut cargo)?;
        let object = target.join(TARGET).join("release/steer");
        std::fs::read(&object).map_err(|error| format!("{}: {error}", object.display()))
    }
}

const MISSING: &str = "install rustc-web and libstd-rust-web-dev-bpf, or name another compiler in \
                       XSWAN_BPF_RUSTC (`cargo xtask setup` installs both)";

/// `bpf-linker 0.10.3`, or nothing if it cannot be run.
fn version_of(linker: &Path, llvm: &Path) -> Option<String> {
    let output =
        Command::new(linker).arg("--version").env("LD_LIBRARY_PATH", llvm).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.trim().to_owned())
}

/// The linker in the tools of this checkout or in the search path, else it is installed.
fn linker(root: &Path, llvm: &Path) -> Result<PathBuf, String> {
    let own = root.join("target/tools");
    let search = std::env::var_os("PATH").unwrap_or_default();
    let places = std::iter::once(own.join("bin")).chain(std::env::split_paths(&search));
    for place in places {
        let candidate = place.join("bpf-linker");
        let version = version_of(&candidate, llvm).unwrap_or_default();
        if version.split_whitespace().any(|word| word == LINKER_VERSION) {
            return Ok(candidate);
        }
    }
    shell::step(&format!("installing bpf-linker {LINKER_VERSION}"));
    shell::run(
        shell::cargo()
            .args(["install", "--quiet", "--locked", "bpf-linker", "--version", LINKER_VERSION])
            .arg("--root")
            .arg(&own),
    )?;
    Ok(own.join("bin/bpf-linker"))
}
