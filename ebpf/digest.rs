// A fingerprint of the sources of the steering object, included by `xtask`, which records
// it, and by `dataplane/build.rs`, which compares it. It is there to notice an object that
// was forgotten, not one that was forged: FNV-1a with 128 bits needs no dependency.

/// Relative to the root of the workspace: all that the object is made of.
const SOURCES: &[&str] = &[
    "dataplane/wire/Cargo.toml",
    "dataplane/wire/src",
    "ebpf/Cargo.lock",
    "ebpf/Cargo.toml",
    "ebpf/src",
    "ebpf/steer/Cargo.toml",
    "ebpf/steer/src",
];

struct Fnv(u128);

impl Fnv {
    const fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
        }
    }

    /// A piece with its length, so that pieces cannot run into each other.
    fn piece(&mut self, bytes: &[u8]) {
        self.bytes(&(bytes.len() as u64).to_le_bytes());
        self.bytes(bytes);
    }

    fn text(&self) -> String {
        format!("{:032x}", self.0)
    }
}

fn digest_of(bytes: &[u8]) -> String {
    let mut fnv = Fnv::new();
    fnv.bytes(bytes);
    fnv.text()
}

/// Every source file below `root`, by its path from there, sorted.
fn source_files(root: &std::path::Path) -> std::io::Result<Vec<String>> {
    let mut files = Vec::new();
    let mut open: Vec<String> = SOURCES.iter().map(|path| (*path).to_owned()).collect();
    while let Some(path) = open.pop() {
        if !root.join(&path).is_dir() {
            files.push(path);
            continue;
        }
        for entry in std::fs::read_dir(root.join(&path))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            open.push(format!("{path}/{name}"));
        }
    }
    files.sort();
    Ok(files)
}

/// Digest of names and contents of all source files.
fn digest_of_sources(root: &std::path::Path) -> std::io::Result<String> {
    let mut fnv = Fnv::new();
    for path in source_files(root)? {
        fnv.piece(path.as_bytes());
        fnv.piece(&std::fs::read(root.join(&path))?);
    }
    Ok(fnv.text())
}

/// The value of `key` in the record beside the object.
fn recorded<'a>(record: &'a str, key: &str) -> Option<&'a str> {
    record.lines().find_map(|line| {
        line.strip_prefix(key)?.trim_start().strip_prefix('=')?.trim().strip_prefix('"')?.strip_suffix('"')
    })
}
