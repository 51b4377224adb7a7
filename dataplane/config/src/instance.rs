//! The sections about this machine: `[instance]`, `[cores]`, `[dataplane]`, `[[device]]`.

use crate::cores::parse_list;
use crate::error::ConfigError;
use crate::reader::{Item, Section};
use std::path::PathBuf;

/// `[instance]`: names and places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Name of the gateway on this machine, 1 to 15 of `a-z 0-9 _ -`.
    pub name: String,
    /// Sockets and locks are in `<run_dir>/<name>/`.
    pub run_dir: PathBuf,
    /// Maps are pinned in `<bpf_dir>/<name>/`.
    pub bpf_dir: PathBuf,
    /// Number in the cluster, 0 to 15.
    pub member: u8,
}

/// `[cores]`: which thread runs where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores {
    /// Core of the dataplane's main thread.
    pub main: u32,
    /// One worker on each; never empty, at most 64.
    pub workers: Vec<u32>,
}

/// `huge_pages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// If there are any.
    Auto,
    /// Never.
    Off,
}

/// `wait`: what a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It looks again.
    Busy,
    /// It sleeps until the kernel has something.
    Sleep,
}

/// `aead`: who ciphers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AeadBackend {
    /// The fastest there is on this machine.
    Auto,
    /// RustCrypto.
    RustCrypto,
    /// AWS-LC.
    AwsLc,
    /// Our own AES-GCM, on processors that have the instructions.
    Native,
}

/// `rings`: who works the kernel's AF_XDP rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rings {
    /// Our own code.
    Own,
    /// The binding xsk-rs over libxdp.
    XskRs,
}

/// `fragment`: packets too large for the tunnel that may be fragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragmentation {
    /// Fragmented before they are sealed.
    Before,
    /// Dropped.
    Off,
}

/// `[dataplane]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataplane {
    /// Octets of a frame, 2048 or 4096.
    pub frame_size: u32,
    /// Frames of a worker, a power of two.
    pub frames_per_worker: u32,
    /// Descriptors of a ring, a power of two.
    pub ring_size: u32,
    /// Who works the rings.
    pub rings: Rings,
    /// Packets of a burst, 1 to 256.
    pub burst: u32,
    /// SAs of each direction.
    pub sa_slots: u32,
    /// Policies.
    pub policies: u32,
    /// 64-bit words for replay windows.
    pub replay_words: u32,
    /// Huge pages for frames.
    pub huge_pages: HugePages,
    /// What a worker does when idle.
    pub wait: Wait,
    /// Who ciphers.
    pub aead: AeadBackend,
    /// Name of the slow path's TUN device.
    pub tun: String,
    /// ICMP errors per second and worker.
    pub icmp_rate: u32,
    /// Large packets that may be fragmented.
    pub fragment: Fragmentation,
}

/// `role` of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceRole {
    /// The untrusted side.
    Outer,
    /// The protected side.
    Inner,
    /// Both sides on one device.
    Both,
}

/// `mode` of a device's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceMode {
    /// The best that the driver grants.
    Auto,
    /// Zero-copy or nothing.
    ZeroCopy,
    /// Native XDP with copies.
    Copy,
    /// Generic XDP with copies.
    Generic,
}

/// `[[device]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Name, 1 to 15 characters.
    pub name: String,
    /// Which side it serves.
    pub role: DeviceRole,
    /// Receive queues; `None` is all of them.
    pub queues: Option<Vec<u32>>,
    /// How its sockets are bound.
    pub mode: DeviceMode,
    /// Prefer busy polling.
    pub busy_poll: bool,
}

/// Devices at most; the steering maps have no more places.
const DEVICES_MAX: usize = 8;
/// Workers at most.
const WORKERS_MAX: usize = 64;
/// Queues of a device at most.
const QUEUES_MAX: u32 = 64;
/// Cores the kernel can be asked for with a fixed-size mask.
const CORES_MAX: u32 = 1024;

fn text_or(section: &Section<'_>, key: &'static str, default: &str) -> Result<String, ConfigError> {
    section.find(key).map_or(Ok(default.to_owned()), |item| item.text().map(str::to_owned))
}

pub(crate) fn directory(
    section: &Section<'_>,
    key: &'static str,
    default: &str,
) -> Result<PathBuf, ConfigError> {
    let Some(item) = section.find(key) else { return Ok(default.into()) };
    let path = PathBuf::from(item.text()?);
    // A NUL would only be found when the path is used.
    let usable = path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0);
    if usable { Ok(path) } else { Err(item.error("is no path", "an absolute path")) }
}

fn number_or(
    section: &Section<'_>,
    key: &'static str,
    default: u32,
    range: std::ops::RangeInclusive<u32>,
) -> Result<u32, ConfigError> {
    let Some(item) = section.find(key) else { return Ok(default) };
    let wide = u64::from(*range.start())..=u64::from(*range.end());
    item.integer(wide).map(|value| u32::try_from(value).unwrap_or(default))
}

fn power_of_two(
    section: &Section<'_>,
    key: &'static str,
    default: u32,
    range: std::ops::RangeInclusive<u32>,
) -> Result<u32, ConfigError> {
    let value = number_or(section, key, default, range)?;
    match section.find(key) {
        Some(item) if !value.is_power_of_two() => {
            Err(item.error(format!("{value} is no power of two"), "powers of two"))
        }
        _ => Ok(value),
    }
}

pub(crate) fn choice_or<T: Copy>(
    section: &Section<'_>,
    key: &'static str,
    default: T,
    choices: &[(&str, T)],
) -> Result<T, ConfigError> {
    section.find(key).map_or(Ok(default), |item| item.choice(choices))
}

pub(crate) fn is_device_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    (1..=15).contains(&name.len()) && name.chars().all(plain) && name != "." && name != ".."
}

/// Names of instances, connections and children.
pub(crate) fn is_name(name: &str, longest: usize) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    (1..=longest).contains(&name.len()) && name.chars().all(plain)
}

pub(crate) fn read_instance(section: Section<'_>) -> Result<Instance, ConfigError> {
    let name = text_or(&section, "name", "xswan")?;
    if !is_name(&name, 15) {
        let place = section.find("name").map_or_else(|| section.place_of("name"), |i| i.place());
        return Err(place.error(format!("{name:?} is no name"), "1 to 15 of a-z 0-9 _ -"));
    }
    let instance = Instance {
        name,
        run_dir: directory(&section, "run_dir", "/run/xswan")?,
        bpf_dir: directory(&section, "bpf_dir", "/sys/fs/bpf/xswan")?,
        member: number_or(&section, "member", 0, 0..=15)? as u8,
    };
    section.finish()?;
    Ok(instance)
}

fn list(item: &Item<'_>, highest: u32, allowed: &str) -> Result<Vec<u32>, ConfigError> {
    if item.is_integer() {
        return Ok(vec![item.integer(0..=highest.into())? as u32]);
    }
    parse_list(item.text()?, highest).map_err(|what| item.error(what, allowed))
}

pub(crate) fn read_cores(
    section: Section<'_>,
    warnings: &mut Vec<String>,
) -> Result<Cores, ConfigError> {
    let main = number_or(&section, "main", 0, 0..=CORES_MAX - 1)?;
    let item = section.require("workers")?;
    let workers = list(&item, CORES_MAX - 1, "a list of cores such as \"2-5,8\"")?;
    if workers.len() > WORKERS_MAX {
        return Err(item.error(format!("{} workers", workers.len()), "1 to 64 workers"));
    }
    if workers.contains(&main) {
        let place = item.place();
        warnings.push(format!(
            "{}:{}: {}: core {main} runs a worker and the main thread",
            place.file, place.line, place.key
        ));
    }
    section.finish()?;
    Ok(Cores { main, workers })
}

pub(crate) fn read_dataplane(section: Section<'_>) -> Result<Dataplane, ConfigError> {
    let frame_size = number_or(&section, "frame_size", 2048, 2048..=4096)?;
    if !matches!(frame_size, 2048 | 4096) {
        let place = section.place_of("frame_size");
        let place = section.find("frame_size").map_or(place, |item| item.place());
        return Err(place.error(format!("{frame_size} is no frame size"), "2048, 4096"));
    }
    let tun = text_or(&section, "tun", "xswan0")?;
    if !is_device_name(&tun) {
        let place = section.find("tun").map_or_else(|| section.place_of("tun"), |i| i.place());
        return Err(place.error(format!("{tun:?} is no device name"), "1 to 15 characters"));
    }
    let huge_pages = [("auto", HugePages::Auto), ("off", HugePages::Off)];
    let wait = [("busy", Wait::Busy), ("sleep", Wait::Sleep)];
    let aead = [
        ("auto", AeadBackend::Auto),
        ("rustcrypto", AeadBackend::RustCrypto),
        ("aws-lc", AeadBackend::AwsLc),
        ("native", AeadBackend::Native),
    ];
    let rings = [("own", Rings::Own), ("xsk-rs", Rings::XskRs)];
    let fragment = [("before", Fragmentation::Before), ("off", Fragmentation::Off)];
    let dataplane = Dataplane {
        frame_size,
        frames_per_worker: power_of_two(&section, "frames_per_worker", 8192, 64..=1 << 20)?,
        ring_size: power_of_two(&section, "ring_size", 2048, 64..=1 << 16)?,
        rings: choice_or(&section, "rings", Rings::Own, &rings)?,
        burst: number_or(&section, "burst", 64, 1..=256)?,
        sa_slots: number_or(&section, "sa_slots", 4096, 1..=1 << 20)?,
        policies: number_or(&section, "policies", 1024, 1..=1 << 20)?,
        replay_words: number_or(&section, "replay_words", 1 << 18, 8..=1 << 28)?,
        huge_pages: choice_or(&section, "huge_pages", HugePages::Auto, &huge_pages)?,
        wait: choice_or(&section, "wait", Wait::Sleep, &wait)?,
        aead: choice_or(&section, "aead", AeadBackend::Auto, &aead)?,
        tun,
        icmp_rate: number_or(&section, "icmp_rate", 1000, 0..=1_000_000)?,
        fragment: choice_or(&section, "fragment", Fragmentation::Before, &fragment)?,
    };
    section.finish()?;
    Ok(dataplane)
}

pub(crate) fn read_devices(item: Option<Item<'_>>) -> Result<Vec<Device>, ConfigError> {
    let Some(item) = item else { return Ok(Vec::new()) };
    let sections = item.sections()?;
    if sections.len() > DEVICES_MAX {
        let what = format!("{} devices", sections.len());
        return Err(item.error(what, format!("at most {DEVICES_MAX}")));
    }
    let mut devices: Vec<Device> = Vec::new();
    for section in sections {
        let name = section.require("name")?;
        let device = read_device(section)?;
        if devices.iter().any(|other| other.name == device.name) {
            return Err(name.error(format!("device {} comes twice", device.name), "other names"));
        }
        devices.push(device);
    }
    Ok(devices)
}

fn read_device(section: Section<'_>) -> Result<Device, ConfigError> {
    let name = section.require("name")?;
    if !is_device_name(name.text()?) {
        return Err(name.error("is no device name", "1 to 15 characters"));
    }
    let queues = match section.find("queues") {
        None => None,
        Some(item) => Some(list(&item, QUEUES_MAX - 1, "a list of queues such as \"0-3\"")?),
    };
    let modes = [
        ("auto", DeviceMode::Auto),
        ("zero-copy", DeviceMode::ZeroCopy),
        ("copy", DeviceMode::Copy),
        ("generic", DeviceMode::Generic),
    ];
    let roles =
        [("outer", DeviceRole::Outer), ("inner", DeviceRole::Inner), ("both", DeviceRole::Both)];
    let device = Device {
        name: name.text()?.to_owned(),
        role: section.require("role")?.choice(&roles)?,
        queues,
        mode: choice_or(&section, "mode", DeviceMode::Auto, &modes)?,
        busy_poll: section.find("busy_poll").map_or(Ok(false), |item| item.boolean())?,
    };
    section.finish()?;
    Ok(device)
}
