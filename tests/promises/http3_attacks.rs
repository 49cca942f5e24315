//! What a peer of HTTP/3 may not do: RFC 9114's and RFC 9204's rules from outside, and more of anything than the gateway bears
//! (rows C4 and C10).
