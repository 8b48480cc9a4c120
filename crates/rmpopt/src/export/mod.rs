//! A host as metrics: over HTTP and as a file.

mod connection;
mod encode;
mod families;
mod request;
mod sample;
mod server;

pub(crate) use self::encode::Format;
pub(crate) use self::sample::Kept;
pub(crate) use self::server::Server;
