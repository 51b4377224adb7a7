//! Packets over several buffers.

use xswan_xsk::{Backend, FrameBatch, Mode, QueueRings, QueueSocket, UmemConfig, Wake, open_all};

use crate::namespace::within;
use crate::program::Program;
use crate::{
    assert_conserved, both_queues, complete_all, config, device_index, frame_for, request,
    take_home, until,
};

pub fn a_packet_sent_over_two_buffers_arrives_in_one<B: Backend>() {
    within(|_| {
        let sender = UmemConfig { multi_buffer: true, ..config(1) };
        let mut near = open_all::<B>(sender, &[request("xk0", 0, Mode::Auto)]).unwrap();
        let mut far = both_queues::<B>("xk1", 1);
        let program = Program::attach(device_index(c"xk1")).unwrap();
        program.set(0, far.queues[0].sockets[0].fd().unwrap()).unwrap();
        let mut batch = FrameBatch::new();
        far.stocks[0].take_into(&mut batch, 8);
        far.queues[0].rings.fill(&mut batch);
        let bytes = frame_for(0, 900);
        let mut pieces = bytes.chunks(500).peekable();
        while let Some(piece) = pieces.next() {
            let mut frame = near.stocks[0].take().unwrap();
            frame.chunk_mut()[..piece.len()].copy_from_slice(piece);
            frame.set_len(piece.len()).unwrap();
            frame.set_multi_buffer(pieces.peek().is_some());
            batch.push(frame).unwrap();
        }
        assert_eq!(near.queues[0].sockets[0].tx(&mut batch), 2);
        assert_eq!(near.queues[0].sockets[0].wake_tx(), Wake::Done);
        complete_all(&mut near.queues[0], &mut near.stocks);
        until(|| far.queues[0].sockets[0].rx(&mut batch) == 1);
        assert_eq!(batch[0].bytes(), bytes);
        assert!(!batch[0].is_multi_buffer());
        take_home(&mut far.stocks, &mut batch);
    });
}

pub fn a_long_packet_goes_over_several_buffers_both_ways<B: Backend>() {
    within(|namespace| {
        for device in ["xk0", "xk1"] {
            assert!(namespace.ip(&format!("link set {device} mtu 9000")));
        }
        let config = UmemConfig { multi_buffer: true, ..config(1) };
        let mut near = open_all::<B>(config, &[request("xk0", 0, Mode::Auto)]).unwrap();
        let mut far = open_all::<B>(config, &[request("xk1", 0, Mode::Auto)]).unwrap();
        let program = Program::attach(device_index(c"xk1")).unwrap();
        program.set(0, far.queues[0].sockets[0].fd().unwrap()).unwrap();
        let mut batch = FrameBatch::new();
        far.stocks[0].take_into(&mut batch, 128);
        far.queues[0].rings.fill(&mut batch);
        let room = near.umem.umem().longest_frame();
        for len in [room, room + 1, 2 * room, 2 * room + 1, 4 * room + 7, 9014] {
            let mut bytes = frame_for(0, len as u32);
            bytes.resize(len, 0x5a);
            let mut pieces = bytes.chunks(room).peekable();
            while let Some(piece) = pieces.next() {
                let mut frame = near.stocks[0].take().unwrap();
                frame.chunk_mut()[..piece.len()].copy_from_slice(piece);
                frame.set_len(piece.len()).unwrap();
                frame.set_multi_buffer(pieces.peek().is_some());
                batch.push(frame).unwrap();
            }
            near.queues[0].sockets[0].tx(&mut batch);
            assert_eq!(near.queues[0].sockets[0].wake_tx(), Wake::Done);
            complete_all(&mut near.queues[0], &mut near.stocks);
            until(|| {
                far.queues[0].sockets[0].rx(&mut batch);
                batch.last().is_some_and(|frame| !frame.is_multi_buffer())
            });
            let whole: Vec<u8> = batch.iter().flat_map(|frame| frame.bytes().to_vec()).collect();
            assert!(whole == bytes, "{len} bytes over {} buffers", batch.len());
            let marks: Vec<_> = batch.iter().map(|frame| frame.is_multi_buffer()).collect();
            assert!(marks.iter().rev().skip(1).all(|&more| more), "{marks:?}");
            assert_eq!(batch.len() > 1, len > room);
            take_home(&mut far.stocks, &mut batch);
        }
        assert_conserved(&near.umem, &near.stocks, &near.queues);
        assert_conserved(&far.umem, &far.stocks, &far.queues);
    });
}
