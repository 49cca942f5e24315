//! `adjtimex(2)`, read only. The one place where the clock needs `unsafe`: no maintained crate that the gateway
//! depends on offers the call.
#![expect(unsafe_code, reason = "adjtimex is only reachable through libc")]

use std::io;
use std::mem;

use super::ntp::Leap;

/// What the kernel knows of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// Upper bound of the error, microseconds; at most 16 s, which is also what an unsynchronised clock says.
    pub(super) max_error_us: u64,
    /// Whether a time service keeps the clock.
    pub(super) synchronised: bool,
    /// The leap second that the kernel will make.
    pub(super) leap: Option<Leap>,
}

/// Asks the kernel; changes nothing and needs no privilege.
pub(super) fn read() -> io::Result<State> {
    // SAFETY: `timex` is a C struct of integers, for which all zeros is a valid value; `modes` = 0 makes the call a
    // pure read.
    let mut timex: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a live, exclusively borrowed `timex`, which the call fills in.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(State {
        max_error_us: u64::try_from(timex.maxerror).unwrap_or(0),
        synchronised: state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
        leap: if timex.status & libc::STA_INS != 0 {
            Some(Leap::Insert)
        } else if timex.status & libc::STA_DEL != 0 {
            Some(Leap::Delete)
        } else {
            None
        },
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_answers_within_its_own_bounds() {
        let state = super::read().unwrap();
        assert!(state.max_error_us <= 16_000_000 || !state.synchronised, "{state:?}");
    }
}
