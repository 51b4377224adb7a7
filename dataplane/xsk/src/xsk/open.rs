//! Opening a queue by the binding, and closing it.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::socket::SocketCreateError;
use xsk_rs::{CompQueue, FillQueue, RxQueue, Socket, TxQueue};

use crate::error::OpenError;
use crate::frame::FrameStock;
use crate::open::{
    Backend, ClosedQueue, Granted, NotOneQueue, OpenedOn, OpenedQueue, Opening, Pages,
    QueueRequest, UmemConfig, bind_first, bind_patiently, busy, refused, set_busy_poll,
};
use crate::sys;
use crate::umem::Umem;
use crate::xsk::rings::{XskRings, XskSocket};
use crate::xsk::umem::{XskUmem, error_number};

type Rings = Option<(FillQueue, CompQueue)>;
type Parts = (TxQueue, RxQueue, Rings);

impl Backend for XskUmem {
    type Socket = XskSocket;
    type Rings = XskRings;

    fn map(config: UmemConfig) -> Result<(Self, Vec<FrameStock>), OpenError> {
        Self::new(config)
    }

    fn umem(&self) -> &Umem {
        self.memory()
    }

    fn pages(&self) -> &Pages {
        self.kind_of_pages()
    }

    fn granted(&self) -> Option<Granted> {
        self.sockets().granted
    }

    fn opening_of(rings: &XskRings) -> Opening {
        Opening { tag: rings.tag, place: rings.place }
    }

    fn open_queue(&self, request: &QueueRequest) -> Result<OpenedOn<Self>, OpenError> {
        let _alone = self.opening();
        let interface = CString::new(request.device.as_str()).unwrap_or_default();
        let index = sys::device_index(&interface);
        if index == 0 {
            return Err(OpenError::NoDevice { device: request.device.clone() });
        }
        let place = (index, request.queue);
        if self.is_open(place) {
            return Err(busy(request, Duration::ZERO));
        }
        let interface = Interface::new(interface);
        let started = Instant::now();
        let (first, granted) = self.first_socket(&interface, request)?;
        let waited_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let tag = self.next_tag();
        self.place(tag, place);
        self.sockets().granted.get_or_insert(granted);
        let opened = self.other_sockets(&interface, request, first, tag);
        let (sockets, rings) = opened.inspect_err(|_| {
            // All of this queue's sockets are closed again; an error of this says no more
            // than the one that is returned.
            let _ = self.move_anchor(tag);
        })?;
        let rings = rings.and_then(|rings| XskRings::new(self.clone(), rings, place, &sockets));
        let rings = rings.ok_or_else(|| busy(request, started.elapsed()))?;
        Ok(OpenedQueue { sockets, rings, granted, waited_ms })
    }

    fn close_queue(
        &self,
        rings: XskRings,
        sockets: Vec<XskSocket>,
    ) -> Result<ClosedQueue, NotOneQueue<Self>> {
        let all = sockets.len() == rings.gauges.len();
        if !all || sockets.iter().any(|socket| socket.tag != rings.tag) {
            return Err(Box::new((rings, sockets)));
        }
        let _alone = self.opening();
        let opening = Self::opening_of(&rings);
        drop(rings);
        drop(sockets);
        // If this fails the queue stays bound, which opening it again will say.
        let released = self.move_anchor(opening.tag);
        Ok(ClosedQueue { umem: self.memory().clone(), opening, released })
    }
}

impl XskUmem {
    /// Binds the sockets of the other workers beside the first.
    fn other_sockets(
        &self,
        interface: &Interface,
        request: &QueueRequest,
        (tx, rx, rings): Parts,
        tag: u16,
    ) -> Result<(Vec<XskSocket>, Rings), OpenError> {
        let busy_poll = request.busy_poll.is_some();
        let other = |error| OpenError::Other {
            doing: format!("queue {} of {}", request.queue, request.device),
            error,
        };
        let socket = |tx, rx| XskSocket::new(self.clone(), (tx, rx), tag, busy_poll);
        let mut sockets = vec![socket(tx, rx).map_err(other)?];
        self.anchor_at(tag).map_err(other)?;
        for _ in 1..self.config().workers {
            let (tx, rx, _) = self.bind(interface, request, BindFlags::empty())?;
            sockets.push(socket(tx, rx).map_err(other)?);
        }
        for socket in &sockets {
            set_busy_poll(socket.raw_fd(), request)?;
        }
        Ok((sockets, rings))
    }

    /// Binds the first socket of a queue, and finds out which mode it got.
    fn first_socket(
        &self,
        interface: &Interface,
        request: &QueueRequest,
    ) -> Result<(Parts, Granted), OpenError> {
        let bind = |mode| self.bind(interface, request, flag(mode));
        let parts = bind_first(request, self.granted(), bind)?;
        let fd = parts.1.fd().as_raw_fd();
        let zero_copy = sys::is_zero_copy(fd).map_err(|error| OpenError::Other {
            doing: format!("mode of {} queue {}", request.device, request.queue),
            error,
        })?;
        Ok((parts, if zero_copy { Granted::ZeroCopy } else { Granted::Copy }))
    }

    /// Binds one socket, trying again while the queue is busy.
    fn bind(
        &self,
        interface: &Interface,
        request: &QueueRequest,
        mode: BindFlags,
    ) -> Result<Parts, OpenError> {
        let config = self.socket_config(mode)?;
        let bind = || {
            // SAFETY: the binding loads no program (the flag is set), which is what makes
            // several sockets on one queue sound.
            unsafe { Socket::new(config, self.kernel(), interface, request.queue) }
        };
        let is_busy = |error: &SocketCreateError| error_number(error) == Some(libc::EBUSY);
        let renew = || {
            // If this fails, so will the next try, and says why.
            let _ = self.renew_anchor();
        };
        bind_patiently(bind, is_busy, renew).map_err(|(error, waited)| {
            let zero_copy = mode.contains(BindFlags::XDP_ZEROCOPY);
            let error = error_number(&error)
                .map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error);
            refused(error, request, zero_copy, waited)
        })
    }

    fn socket_config(&self, mode: BindFlags) -> Result<SocketConfig, OpenError> {
        let power = |_| OpenError::Shape("ring sizes must be powers of two");
        let mut flags = mode | BindFlags::XDP_USE_NEED_WAKEUP;
        flags.set(BindFlags::XDP_USE_SG, self.config().multi_buffer);
        Ok(SocketConfig::builder()
            .rx_queue_size(QueueSize::new(self.config().rings.rx).map_err(power)?)
            .tx_queue_size(QueueSize::new(self.config().rings.tx).map_err(power)?)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(flags)
            .build())
    }
}

const fn flag(mode: Granted) -> BindFlags {
    match mode {
        Granted::ZeroCopy => BindFlags::XDP_ZEROCOPY,
        Granted::Copy => BindFlags::XDP_COPY,
    }
}
