//! A PROXY header on arbitrary bytes.
//!
//! What must hold: nothing panics, and what a header of version 2 says of two addresses is what is written about them.
#![no_main]

use gateway::listen::{Said, parse_proxy_header};
use gateway::upstream::Client;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(Said::Client { source, destination }) = parse_proxy_header(data)
        && source.is_ipv4() == destination.is_ipv4()
        && [source, destination].iter().all(|address| address.ip().to_canonical() == address.ip())
    {
        let written = Client { source, destination }.header().expect("two addresses of one family");
        assert_eq!(parse_proxy_header(&written), Ok(Said::Client { source, destination }));
    }
});
