//! HTTP/1.1 on the server's side: our own strict codec over `httparse`, since a decision must be made on the very
//! bytes that are forwarded and a general-purpose server hides some of them (`gateway/decisions/`).

mod chunked;
mod connection;
mod fields;
mod head;
mod io;
mod response;
#[cfg(test)]
mod tests;
mod tunnel;

pub use chunked::{ChunkedDecoder, Piece};
pub(super) use connection::serve;
pub(crate) use fields::{put_chunk_size, put_fields, put_last_chunk};
pub use head::{Framing, HeadLimits, HeadScan, take_head};
pub use io::H1Body;
pub(crate) use io::Stream;
pub(super) use response::date;
