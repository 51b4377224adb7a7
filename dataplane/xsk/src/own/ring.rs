//! One ring: a power of two of entries, and two counters that run on for ever.
//!
//! The producer writes entries and then its counter (release); the consumer reads that
//! counter (acquire), the entries, and then writes its own. Each side keeps a copy of the
//! other's counter and reads the shared word only when the copy says that there is nothing to
//! do, so a batch costs one read and one write of shared memory at most.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// The kernel wants to be woken (`XDP_RING_NEED_WAKEUP`).
const NEED_WAKEUP: u32 = 1;

/// A descriptor of an rx or tx ring (`struct xdp_desc`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RingDescriptor {
    /// Address from the start of the UMEM, in bytes.
    pub address: u64,
    /// Length in bytes.
    pub len: u32,
    /// `XDP_PKT_CONTD` and such.
    pub options: u32,
}

/// What an entry may be: plain data, any bits of which are a value.
///
/// # Safety
/// Every bit pattern is a value, and there is no padding.
pub unsafe trait Entry: Copy + Default + Send {}
// SAFETY: an integer.
unsafe impl Entry for u64 {}
// SAFETY: three integers that leave no gap.
unsafe impl Entry for RingDescriptor {}

/// Where a ring lies.
#[derive(Clone, Copy, Debug)]
pub struct Layout<T> {
    /// The producer's counter.
    pub producer: NonNull<AtomicU32>,
    /// The consumer's counter.
    pub consumer: NonNull<AtomicU32>,
    /// The flags.
    pub flags: NonNull<AtomicU32>,
    /// The entries.
    pub entries: NonNull<T>,
    /// How many entries; a power of two.
    pub size: u32,
}

struct Ring<T> {
    layout: Layout<T>,
    mask: u32,
    entry: PhantomData<T>,
}

// SAFETY: the words are atomics; entries are reached only by the side whose turn it is, and a
// side is one value that is not `Clone`.
unsafe impl<T: Entry> Send for Ring<T> {}

impl<T: Entry> Ring<T> {
    /// # Safety
    /// See [`Producer::new`].
    unsafe fn new(layout: Layout<T>) -> Self {
        Self { layout, mask: layout.size.wrapping_sub(1), entry: PhantomData }
    }

    #[inline(always)]
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: a live word, promised by whoever made the ring.
        unsafe { self.layout.producer.as_ref() }
    }

    #[inline(always)]
    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.layout.consumer.as_ref() }
    }

    #[inline(always)]
    fn wants_wakeup(&self) -> bool {
        // SAFETY: as above.
        let flags = unsafe { self.layout.flags.as_ref() };
        flags.load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }

    #[inline(always)]
    fn place(&self, counter: u32) -> NonNull<T> {
        // SAFETY: masked, so below the number of entries.
        unsafe { self.layout.entries.add((counter & self.mask) as usize) }
    }
}

/// The producing side.
pub struct Producer<T> {
    ring: Ring<T>,
    /// Our counter, ahead of the shared word by what is written and not published.
    next: u32,
    /// The consumer's counter as last seen.
    freed: u32,
}

impl<T: Entry> Producer<T> {
    /// Takes the producing side of a ring.
    ///
    /// # Safety
    /// The layout is that of a ring which stays in memory as long as this value; its size is a
    /// power of two, and nobody else produces into it.
    #[must_use]
    pub unsafe fn new(layout: Layout<T>) -> Self {
        // SAFETY: passed on to the caller.
        let ring = unsafe { Ring::new(layout) };
        let next = ring.producer().load(Ordering::Relaxed);
        let freed = ring.consumer().load(Ordering::Acquire);
        Self { ring, next, freed }
    }

    #[inline(always)]
    fn seen_room(&self) -> u32 {
        self.ring.layout.size.saturating_sub(self.next.wrapping_sub(self.freed))
    }

    /// Free places, looking at the shared word only if fewer than `want` are known of.
    #[inline(always)]
    pub fn room(&mut self, want: u32) -> u32 {
        if self.seen_room() < want {
            self.freed = self.ring.consumer().load(Ordering::Acquire);
        }
        self.seen_room()
    }

    /// Writes an entry behind those written before; it is not to be seen before
    /// [`Producer::publish`]. There has to be room, which this does not look at: more entries
    /// than that overwrite older ones.
    #[inline(always)]
    pub fn write(&mut self, entry: T) {
        let place = self.ring.place(self.next);
        // SAFETY: within the entries, and ours to write until it is published.
        unsafe { place.write(entry) };
        self.next = self.next.wrapping_add(1);
    }

    /// Shows the consumer what has been written.
    #[inline(always)]
    pub fn publish(&mut self) {
        self.ring.producer().store(self.next, Ordering::Release);
    }

    /// Entries published that the consumer has not taken.
    #[inline]
    #[must_use]
    pub fn pending(&self) -> u32 {
        let taken = self.ring.consumer().load(Ordering::Acquire);
        self.ring.producer().load(Ordering::Relaxed).wrapping_sub(taken)
    }

    /// Whether the consumer sleeps and has to be woken.
    ///
    /// What has been published is seen by a consumer that clears the flag after this looked.
    #[inline(always)]
    #[must_use]
    pub fn wants_wakeup(&self) -> bool {
        fence(Ordering::SeqCst);
        self.ring.wants_wakeup()
    }
}

/// The consuming side.
pub struct Consumer<T> {
    ring: Ring<T>,
    /// Our counter, ahead of the shared word by what is read and not released.
    next: u32,
    /// The producer's counter as last seen.
    published: u32,
}

impl<T: Entry> Consumer<T> {
    /// Takes the consuming side of a ring.
    ///
    /// # Safety
    /// As for [`Producer::new`], and nobody else consumes from it.
    #[must_use]
    pub unsafe fn new(layout: Layout<T>) -> Self {
        // SAFETY: passed on to the caller.
        let ring = unsafe { Ring::new(layout) };
        let next = ring.consumer().load(Ordering::Relaxed);
        Self { published: next, ring, next }
    }

    /// How many entries there are to read, at most `want`; looks at the shared word only if
    /// fewer are known of. Never more than the ring has, whatever the word says.
    #[inline(always)]
    pub fn available(&mut self, want: u32) -> u32 {
        let seen = self.published.wrapping_sub(self.next);
        if seen >= want {
            return want;
        }
        let published = self.ring.producer().load(Ordering::Acquire);
        let ready = published.wrapping_sub(self.next).min(self.ring.layout.size);
        self.published = self.next.wrapping_add(ready);
        ready.min(want)
    }

    /// Reads the next entry; [`Consumer::available`] has said that there is one. Otherwise it
    /// is an old one.
    #[inline(always)]
    pub fn read(&mut self) -> T {
        let place = self.ring.place(self.next);
        // SAFETY: within the entries, and any bits are a value.
        let entry = unsafe { place.read() };
        self.next = self.next.wrapping_add(1);
        entry
    }

    /// Gives the places of what has been read back to the producer.
    #[inline(always)]
    pub fn release(&mut self) {
        self.ring.consumer().store(self.next, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// A ring over plain memory.
    struct Memory<T> {
        producer: Box<AtomicU32>,
        consumer: Box<AtomicU32>,
        flags: Box<AtomicU32>,
        entries: Box<[T]>,
    }

    impl<T: Entry> Memory<T> {
        /// The counters start at `at`, so that they can be made to wrap.
        fn new(size: usize, at: u32) -> Self {
            Self {
                producer: Box::new(AtomicU32::new(at)),
                consumer: Box::new(AtomicU32::new(at)),
                flags: Box::default(),
                entries: vec![T::default(); size].into_boxed_slice(),
            }
        }

        fn sides(&mut self) -> (Producer<T>, Consumer<T>) {
            let layout = Layout {
                producer: NonNull::from(&*self.producer),
                consumer: NonNull::from(&*self.consumer),
                flags: NonNull::from(&*self.flags),
                entries: NonNull::from(&mut *self.entries).cast(),
                size: self.entries.len() as u32,
            };
            // SAFETY: the memory outlives both sides in these tests, and they are the only ones.
            let producer = unsafe { Producer::new(layout) };
            // SAFETY: as above.
            (producer, unsafe { Consumer::new(layout) })
        }
    }

    #[test]
    fn what_is_written_is_seen_only_once_it_is_published() {
        let mut memory = Memory::<u64>::new(4, u32::MAX - 1);
        let (mut producer, mut consumer) = memory.sides();
        assert_eq!(producer.room(1), 4);
        producer.write(7);
        producer.write(8);
        assert_eq!(producer.room(1), 2);
        assert_eq!(consumer.available(4), 0);
        producer.publish();
        assert_eq!((consumer.available(4), producer.pending()), (2, 2));
        assert_eq!((consumer.read(), consumer.read()), (7, 8));
        assert_eq!(producer.room(4), 2, "read and not released");
        consumer.release();
        assert_eq!((producer.room(4), producer.pending()), (4, 0));
    }

    #[test]
    fn the_flag_is_what_the_other_side_wrote() {
        let mut memory = Memory::<u64>::new(2, 0);
        let (producer, _) = memory.sides();
        assert!(!producer.wants_wakeup());
        memory.flags.store(NEED_WAKEUP, Ordering::Relaxed);
        assert!(producer.wants_wakeup());
    }

    #[test]
    fn a_counter_that_lies_yields_no_more_than_the_ring_has() {
        let mut memory = Memory::<u64>::new(8, 5);
        let (_, mut consumer) = memory.sides();
        memory.producer.store(5_000_000, Ordering::Relaxed);
        assert_eq!(consumer.available(100), 8);
        assert_eq!(consumer.available(100), 8, "nor when asked again");
        let (mut producer, _) = memory.sides();
        memory.consumer.store(77, Ordering::Relaxed);
        assert!(producer.room(8) <= 8);
    }

    #[test]
    fn two_threads_pass_a_million_in_order() {
        const COUNT: u64 = 1_000_000;
        let mut memory = Memory::<RingDescriptor>::new(64, u32::MAX - 1000);
        let (mut producer, mut consumer) = memory.sides();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut next = 0;
                while next < COUNT {
                    let room = producer.room(7).min(7);
                    for _ in 0..room {
                        let options = (next * 3) as u32;
                        producer.write(RingDescriptor { address: next, len: !options, options });
                        next += 1;
                    }
                    producer.publish();
                    if room == 0 {
                        std::thread::yield_now();
                    }
                }
            });
            let mut next = 0;
            while next < COUNT {
                let got = consumer.available(11);
                for _ in 0..got {
                    let entry = consumer.read();
                    let options = (next * 3) as u32;
                    assert_eq!(entry, RingDescriptor { address: next, len: !options, options });
                    next += 1;
                }
                consumer.release();
                if got == 0 {
                    std::thread::yield_now();
                }
            }
        });
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Write(u32),
        Publish,
        Read(u32),
        Release,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..20_u32).prop_map(Step::Write),
            Just(Step::Publish),
            (1..20_u32).prop_map(Step::Read),
            Just(Step::Release),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against a queue in three parts: written, published, read and not released.
        #[test]
        fn a_ring_is_a_queue(
            at in any::<u32>(),
            order in 0..7_u32,
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let size = 1_usize << order;
            let mut memory = Memory::<u64>::new(size, at);
            let (mut producer, mut consumer) = memory.sides();
            let (mut written, mut published, mut read) = (VecDeque::new(), VecDeque::new(), 0);
            let mut number = 0_u64;
            for step in steps {
                match step {
                    Step::Write(n) => {
                        let free = size - written.len() - published.len() - read;
                        prop_assert_eq!(producer.room(size as u32) as usize, free);
                        for _ in 0..(n as usize).min(free) {
                            number += 1;
                            producer.write(number);
                            written.push_back(number);
                        }
                    }
                    Step::Publish => {
                        producer.publish();
                        published.append(&mut written);
                    }
                    Step::Read(n) => {
                        let got = consumer.available(n);
                        prop_assert_eq!(got as usize, (n as usize).min(published.len()));
                        for _ in 0..got {
                            prop_assert_eq!(Some(consumer.read()), published.pop_front());
                            read += 1;
                        }
                    }
                    Step::Release => {
                        consumer.release();
                        read = 0;
                    }
                }
            }
        }
    }
}
