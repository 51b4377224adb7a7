//! The codec's tests.
