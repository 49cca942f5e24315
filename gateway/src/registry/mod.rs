//! Who is let in, and who is in: the registered sites, devices, users and roles as the hot path reads them, and how a
//! running gateway learns of a change (R1, R3, R27).

pub mod directory;
pub mod live;
pub mod watch;

pub use directory::Directory;
pub use live::Live;
