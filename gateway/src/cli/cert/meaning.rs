//! One line for each refusal of a path: what it means for whoever holds the certificate, and what to do.

use certs::path::PathRefusal;

/// What to make of a refusal.
pub(super) const fn meaning(refusal: &PathRefusal) -> &'static str {
    match refusal {
        PathRefusal::Malformed(_) => "the bytes break the rules of X.509; get the certificate from its issuer again",
        PathRefusal::TooLarge => "a certificate of this size is never read; have it issued with less in it",
        PathRefusal::TooMany => "send the leaf and the CAs of its own path, not a whole certificate store",
        PathRefusal::TooDeep => {
            "there are more CAs between leaf and anchor than any honest path has; trust a CA nearer to it"
        }
        PathRefusal::TooMuchWork => {
            "its CAs sign each other in so many ways that nobody searches them all; send one path alone"
        }
        PathRefusal::UnknownIssuer => {
            "no CA of `client_ca_file` issued it, or a CA in between is missing in what the client sends"
        }
        PathRefusal::Expired { .. } => "its time is over; issue a new one to the device",
        PathRefusal::NotYetValid { .. } => "its time has not begun; wait, or compare the clocks of issuer and gateway",
        PathRefusal::WrongPurpose(_) => {
            "it was issued for something else than a TLS client; issue one with `clientAuth`"
        }
        PathRefusal::NotAuthority(_) => "a certificate above it is no CA's; ask the issuer for its real chain",
        PathRefusal::PathLength => {
            "a CA above allows fewer CAs below it; issue from a CA that stands nearer to the anchor"
        }
        PathRefusal::NameNotPermitted(_) => "a CA above may not certify that name; issue it from the CA that may",
        PathRefusal::WrongName => "it is somebody else's",
        PathRefusal::PolicyNotAccepted(_) => {
            "it was issued under another policy; of HPKI's, only those for authentication are accepted"
        }
        PathRefusal::UnknownCriticalExtension(_) => {
            "its issuer says that who does not know this extension must not trust it"
        }
        PathRefusal::WeakKey(_) => "issue it anew with P-256, P-384, P-521, Ed25519 or RSA of 2048 to 8192 bits",
        PathRefusal::Algorithm => "SHA-1, DSA and their like prove nothing; have it signed with SHA-256 or better",
        PathRefusal::Revoked { .. } => "its issuer took it back; find out why before a new one is issued",
        PathRefusal::RevocationUnknown(_) => "get the issuer's newest CRL in place; until then nobody can vouch for it",
    }
}
