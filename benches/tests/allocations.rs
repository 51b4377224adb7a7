//! No packet costs an allocation: neither sealed nor opened nor dropped.

#[cfg(test)]
mod tests {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    use xswan_aead::Backend;
    use xswan_benches::gateways::{self, BURST, INNER, OUTER};

    thread_local! {
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }

    /// The system's allocator, and how often this thread asked it.
    struct Counting;

    fn count() {
        // At the end of a thread there is nothing left to count with.
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
    }

    // SAFETY: every call is passed on as it came.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            count();
            // SAFETY: the caller's promise is the one that is asked for.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            count();
            // SAFETY: the caller's promise is the one that is asked for.
            unsafe { System.dealloc(pointer, layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            count();
            // SAFETY: the caller's promise is the one that is asked for.
            unsafe { System.realloc(pointer, layout, size) }
        }
    }

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    fn counted(work: impl FnOnce()) -> u64 {
        let before = COUNT.with(Cell::get);
        work();
        COUNT.with(Cell::get) - before
    }

    #[test]
    fn the_count_counts() {
        assert_eq!(counted(|| drop(std::hint::black_box(Box::new(7)))), 2);
    }

    #[test]
    fn bursts_allocate_nothing_from_the_second_on() {
        for backend in Backend::ALL {
            // The longest are cut in two before they are sealed.
            for len in [64, 1420, 1480] {
                let (mut left, mut right) = gateways::pair(16, backend);
                let frames = gateways::clear_frames(16, len);
                let mut forged: Vec<Vec<u8>> = Vec::new();
                for round in 0..50 {
                    left.load(INNER, frames.iter().map(Vec::as_slice));
                    let outbound = counted(|| left.process());
                    let sealed = left.pool.sent.len();
                    assert_eq!(sealed, if len > 1446 { 2 * BURST } else { BURST });
                    right.load(OUTER, left.pool.sent.iter().take(BURST).map(|f| f.bytes()));
                    let inbound = counted(|| right.process());
                    assert_eq!(right.pool.sent.len(), BURST);
                    if round == 0 {
                        forged
                            .extend(left.pool.sent.iter().take(BURST).map(|f| f.bytes().to_vec()));
                        continue;
                    }
                    assert_eq!((outbound, inbound), (0, 0), "{} {len}", backend.name());
                    // Replays, and forgeries ahead of the window.
                    for frame in &mut forged {
                        let at = 14 + 20 + 6;
                        frame[at] = frame[at].wrapping_add(u8::from(round % 2 == 0) * 0x10);
                    }
                    right.load(OUTER, forged.iter().map(Vec::as_slice));
                    assert_eq!(counted(|| right.process()), 0);
                    assert_eq!(right.pool.sent.len(), 0);
                }
                assert_eq!((left.engine.residual(), right.engine.residual()), (0, 0));
            }
        }
    }
}
