//! Loads the XDP program, fills the maps that are the dataplane's, attaches and detaches.
//!
//! The only file that knows aya. Maps and links are pinned, so that after a crash the
//! program stays attached with no sockets behind it: protected traffic is dropped and
//! counted, never passed in clear, until the next instance takes the link over and swaps
//! its program in without a gap.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use aya::maps::{HashMap, MapData, PerCpuArray, XskMap};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfLoader};
use xswan_steer::abi::{self, PortValue};
use xswan_steer::verdict::Verdict;
use xswan_wire::DropReason;

/// The compiled program; `build.rs` has checked that it belongs to the sources.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("STEER_OBJECT"));
/// Name of the program in the object.
const PROGRAM: &str = "steer";

/// How the program runs on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// In the driver.
    Native,
    /// In the kernel's generic hook, after the driver has built its buffer: slow.
    Generic,
}

impl fmt::Display for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// Why steering could not be set up: one line that says what to do.
#[derive(Debug)]
pub struct SteeringError(String);

impl fmt::Display for SteeringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SteeringError {}

/// The loaded program and its maps.
pub struct Steering {
    ebpf: Ebpf,
    xsks: XskMap<MapData>,
    ports: HashMap<MapData, u32, [u32; 2]>,
    stats: PerCpuArray<MapData, u64>,
    directory: PathBuf,
    attached: Vec<(u32, FdLink)>,
}

fn fail(what: impl fmt::Display) -> SteeringError {
    SteeringError(what.to_string())
}

/// aya nests causes; the operator needs all of them on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl Steering {
    /// Loads the program with its maps pinned in `directory`.
    ///
    /// # Errors
    /// No right to load BPF programs, a verifier's refusal, maps of another layout.
    pub fn load(directory: &Path) -> Result<Self, SteeringError> {
        let mut ebpf = EbpfLoader::new()
            .default_map_pin_directory(directory)
            .load(OBJECT)
            .map_err(|error| {
                fail(format!(
                    "the steering program does not load: {} (needs root or CAP_BPF and CAP_NET_ADMIN)",
                    chain(&error)
                ))
            })?;
        let program: &mut Xdp = program(&mut ebpf)?;
        program
            .load()
            .map_err(|error| fail(format!("the kernel refuses the program: {}", chain(&error))))?;
        let xsks = take(&mut ebpf, "xsks")?;
        let ports = take(&mut ebpf, "steer_ports")?;
        let stats = take(&mut ebpf, "steer_stats")?;
        Ok(Self { ebpf, xsks, ports, stats, directory: directory.to_owned(), attached: Vec::new() })
    }

    /// Tells the program of a port.
    ///
    /// # Errors
    /// If the map is full or gone.
    pub fn set_port(&mut self, ifindex: u32, value: PortValue) -> Result<(), SteeringError> {
        self.ports
            .insert(ifindex, [value.index, value.roles], 0)
            .map_err(|error| fail(format!("steer_ports: {}", chain(&error))))
    }

    /// Puts a socket where the program looks for it.
    ///
    /// # Errors
    /// If the place is out of range or the descriptor is no AF_XDP socket.
    pub fn set_socket(
        &mut self,
        (port, queue, worker): (u32, u32, u32),
        socket: RawFd,
    ) -> Result<(), SteeringError> {
        self.xsks
            .set(abi::socket_index(port, queue, worker), socket, 0)
            .map_err(|error| fail(format!("xsks: {}", chain(&error))))
    }

    /// Attaches the program, or swaps it into the link that an earlier instance left.
    ///
    /// # Errors
    /// A foreign program on the device, a device that is gone, a mode the driver has not.
    pub fn attach(
        &mut self,
        name: &str,
        ifindex: u32,
        generic: bool,
        fall_back: bool,
    ) -> Result<Attached, SteeringError> {
        let pin = self.pin_of(ifindex);
        if pin.exists() {
            match self.adopt(&pin) {
                Ok(link) => {
                    self.attached.push((ifindex, link));
                    return Ok(if generic { Attached::Generic } else { Attached::Native });
                }
                // The device has been replaced since: its link leads nowhere.
                Err(error) => {
                    tracing::info!(%name, %error, "a link from an earlier instance is not usable: replaced");
                    std::fs::remove_file(&pin)
                        .map_err(|error| fail(format!("{}: {error}", pin.display())))?;
                }
            }
        }
        let wanted = if generic { XdpMode::Skb } else { XdpMode::Driver };
        let (link, mode) = match self.attach_new(ifindex, wanted) {
            Ok(link) => (link, if generic { Attached::Generic } else { Attached::Native }),
            Err(error) if !generic && fall_back && is_unsupported(&error) => {
                let link = self
                    .attach_new(ifindex, XdpMode::Skb)
                    .map_err(|error| refused(name, &error))?;
                (link, Attached::Generic)
            }
            Err(error) => return Err(refused(name, &error)),
        };
        let pinned = link
            .pin(&pin)
            .map_err(|error| fail(format!("{}: {}", pin.display(), chain(&error))))?;
        self.attached.push((ifindex, FdLink::from(pinned)));
        Ok(mode)
    }

    fn attach_new(&mut self, ifindex: u32, mode: XdpMode) -> Result<FdLink, ProgramError> {
        let program: &mut Xdp = match self.ebpf.program_mut(PROGRAM) {
            Some(program) => program.try_into()?,
            None => return Err(ProgramError::NotLoaded),
        };
        let id = program.attach_to_if_index(ifindex, mode)?;
        let link = program.take_link(id)?;
        FdLink::try_from(link).map_err(|_| {
            ProgramError::IOError(io::Error::other("the kernel has no XDP links (needs 5.9)"))
        })
    }

    fn adopt(&mut self, pin: &Path) -> Result<FdLink, SteeringError> {
        let old = PinnedLink::from_pin(pin).map_err(|error| fail(chain(&error)))?;
        let link = XdpLink::try_from(FdLink::from(old)).map_err(|error| fail(chain(&error)))?;
        let program: &mut Xdp = program(&mut self.ebpf)?;
        let id = program.attach_to_link(link).map_err(|error| fail(chain(&error)))?;
        let link = program.take_link(id).map_err(|error| fail(chain(&error)))?;
        FdLink::try_from(link).map_err(|error| fail(chain(&error)))
    }

    fn pin_of(&self, ifindex: u32) -> PathBuf {
        self.directory.join(format!("link_{ifindex}"))
    }

    /// Detaches from every device: from here on the kernel sees all traffic.
    pub fn detach(&mut self) {
        for (ifindex, link) in self.attached.drain(..) {
            let pin = self.directory.join(format!("link_{ifindex}"));
            if let Err(error) = std::fs::remove_file(&pin) {
                tracing::warn!(pin = %pin.display(), %error, "not removed");
            }
            drop(link);
        }
    }

    /// Removes what an earlier instance left on devices that are no longer ours: closed to
    /// protected traffic, with nobody behind it.
    ///
    /// # Errors
    /// As [`Steering::detach_pinned`].
    pub fn detach_others(&self) -> Result<(), SteeringError> {
        remove_links(&self.directory, |index| {
            self.attached.iter().all(|(attached, _)| *attached != index)
        })
    }

    /// Removes the links that a dead instance left in `directory`.
    ///
    /// # Errors
    /// If the directory cannot be read or a link not be removed.
    pub fn detach_pinned(directory: &Path) -> Result<(), SteeringError> {
        remove_links(directory, |_| true)
    }

    /// Frames dropped because no socket was where they were to go, since the maps were made.
    #[must_use]
    pub fn without_socket(&self) -> u64 {
        let index = Verdict::Drop(DropReason::NoWorker).counter();
        self.stats.get(&index, 0).map_or(0, |values| values.iter().sum())
    }

    /// The program's counters, added up over processors.
    #[must_use]
    pub fn statistics(&self) -> Vec<u64> {
        (0..self.stats.len())
            .map(|index| self.stats.get(&index, 0).map_or(0, |values| values.iter().sum()))
            .collect()
    }
}

/// Unpins the links of devices that `unwanted` names by index; the kernel then detaches.
fn remove_links(directory: &Path, unwanted: impl Fn(u32) -> bool) -> Result<(), SteeringError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail(format!("{}: {error}", directory.display()))),
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let index = name.to_string_lossy().strip_prefix("link_").and_then(|n| n.parse().ok());
        if index.is_some_and(&unwanted) {
            std::fs::remove_file(entry.path())
                .map_err(|error| fail(format!("{}: {error}", entry.path().display())))?;
        }
    }
    Ok(())
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, SteeringError> {
    ebpf.program_mut(PROGRAM)
        .ok_or_else(|| fail("the object holds no program `steer`"))?
        .try_into()
        .map_err(|error| fail(chain(&error)))
}

fn take<M>(ebpf: &mut Ebpf, name: &str) -> Result<M, SteeringError>
where
    M: TryFrom<aya::maps::Map, Error = aya::maps::MapError>,
{
    let map =
        ebpf.take_map(name).ok_or_else(|| fail(format!("the object holds no map `{name}`")))?;
    M::try_from(map).map_err(|error| fail(format!("{name}: {}", chain(&error))))
}

fn os_error(error: &ProgramError) -> Option<i32> {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        source = cause.source();
    }
    None
}

fn is_unsupported(error: &ProgramError) -> bool {
    os_error(error) == Some(libc::EOPNOTSUPP)
}

fn refused(name: &str, error: &ProgramError) -> SteeringError {
    let hint = match os_error(error) {
        Some(libc::EBUSY | libc::EEXIST) => {
            format!("another XDP program is attached; `ip link set dev {name} xdp off` removes it")
        }
        Some(libc::EPERM) => "run as root or with CAP_NET_ADMIN and CAP_BPF".to_owned(),
        Some(libc::EOPNOTSUPP) => format!(
            "the driver has no native XDP; set `mode = \"generic\"` or \"auto\" for device {name}"
        ),
        Some(libc::EINVAL) => {
            format!(
                "the driver refuses at this MTU or with its offloads; try `ethtool -K {name} lro off`"
            )
        }
        Some(libc::ENODEV) => format!("device {name} is gone"),
        _ => chain(error),
    };
    fail(format!("{name}: the steering program cannot be attached: {hint}"))
}
