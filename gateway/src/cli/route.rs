//! `sekisho route explain`: which route takes a request, where it goes from there, and why no other route does.

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{anyhow, bail};
use policy::route::{Place, Resolved, Route, RouteTable, Standing};
use policy::target::CanonicalTarget;
use policy::{Effect, Refusal};

use crate::config::{Config, Listener, ListenerPeers, Service};

/// What `sekisho route` can do. It only reads the configuration.
#[derive(Debug, clap::Subcommand)]
pub(super) enum RouteCommand {
    /// Say which route takes a request, where it goes from there, and why no other route does
    Explain(ExplainArgs),
}

/// `sekisho route explain`.
#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// What is asked for: a URL, or a path with its query at any host
    #[arg(value_name = "URL")]
    url: String,
    /// The listener that the request comes to; needed where several take the host
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The HTTP method
    #[arg(long, default_value = "GET")]
    method: String,
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
}

/// Explains. False if no route takes the request.
///
/// # Errors
/// If the configuration cannot be read, or what is asked names no listener, no host or no target; the error says which.
pub(super) fn run(command: &RouteCommand, out: &mut dyn Write) -> anyhow::Result<bool> {
    let RouteCommand::Explain(arguments) = command;
    let config = Config::load(&arguments.config)?;
    let routes = RouteTable::new(config.routes.clone())?;
    let asked = Asked::parse(&arguments.url)?;
    let listener = listener_of(&config, arguments.listener.as_deref(), &asked)?;
    let host = asked.host.as_deref();
    let place = Place { host, ..config.place_of(listener) };
    let shown = |text: &str| super::terminal::text(text);
    let parsed = CanonicalTarget::parse(asked.target.as_bytes(), listener.limits.target_bytes);
    let target =
        parsed.map_err(|refusal| anyhow!("`{}` is refused before any route: {refusal}", shown(&asked.target)))?;
    writeln!(out, "listener {}, for {}", listener.name, purpose(listener))?;
    if host.is_none() && config.routes.iter().any(|route| route.hosts.is_some()) {
        writeln!(out, "no host is given: routes for single hosts are taken to be for it")?;
    }
    let resolved = routes.resolve(place, &arguments.method, &target);
    match &resolved {
        Ok(resolved) => takes(&config, listener, resolved, &arguments.method, out)?,
        Err(refusal @ Refusal::MethodNotAllowed) => {
            writeln!(out, "refused: {refusal}; nothing is done with `{}` there", shown(&arguments.method))?;
        }
        Err(refusal) => writeln!(out, "refused: {refusal}")?,
    }
    for (route, standing) in routes.explain(place, &target) {
        let why = match standing {
            Standing::Takes if resolved.is_ok() => continue,
            Standing::Takes => format!(
                "its prefix `{}` takes the target, and its kind `{}` knows nothing like it",
                route.path(),
                route.kind().label()
            ),
            Standing::Behind(first) => format!("route {first} comes before it: {}", precedence(&routes, &first, route)),
            Standing::OtherListener if route.listeners().is_none() => {
                "it names no listener, and one for patients has the routes alone that name it (`trust.patients_apart`)"
                    .to_owned()
            }
            Standing::OtherListener => format!("it is at {} alone", names(route.listeners())),
            Standing::OtherHost => format!("it is for {} alone", names(route.hosts())),
            Standing::OtherPath => format!("`{}` is no prefix of the target", route.path()),
        };
        writeln!(out, "not {}: {why}", route.name())?;
    }
    Ok(resolved.is_ok())
}

/// What is asked for.
struct Asked {
    /// Lower case, without brackets; none where only a path is given.
    host: Option<String>,
    port: Option<u16>,
    target: String,
}

impl Asked {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let shown = || super::terminal::text(text);
        if text.starts_with('/') {
            return Ok(Self { host: None, port: None, target: text.to_owned() });
        }
        let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
            bail!("`{}` is neither a URL of `https` nor a path that begins with `/`", shown());
        };
        let (authority, target) = match rest.find(['/', '?', '#']) {
            None => (rest, "/".to_owned()),
            Some(at) => {
                let (authority, target) = rest.split_at(at);
                // What stands behind a `#` never leaves a browser.
                let target = target.split('#').next().unwrap_or_default();
                (authority, if target.starts_with('/') { target.to_owned() } else { format!("/{target}") })
            }
        };
        let authority: http::uri::Authority =
            authority.parse().map_err(|_| anyhow!("`{}` names no host that can be read", shown()))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        // One spelling, as the configuration has it.
        let host = host.parse::<IpAddr>().map_or(host, |address| address.to_string());
        Ok(Self { host: Some(host), port: authority.port_u16(), target })
    }
}

fn listener_of<'c>(config: &'c Config, named: Option<&str>, asked: &Asked) -> anyhow::Result<&'c Listener> {
    let quoted = |listeners: &[&Listener]| {
        let names: Vec<_> = listeners.iter().map(|listener| format!("`{}`", listener.name)).collect();
        names.join(", ")
    };
    let all: Vec<&Listener> = config.listeners.iter().collect();
    let takes = |listener: &Listener| {
        asked.host.as_ref().is_none_or(|host| listener.server_names.iter().any(|name| name == host))
    };
    if let Some(named) = named {
        let Some(listener) = all.iter().find(|listener| listener.name == named) else {
            bail!("there is no listener `{}`; there are {}", super::terminal::text(named), quoted(&all));
        };
        if !takes(listener) {
            let host = asked.host.as_deref().unwrap_or_default();
            let names = listener.server_names.join(", ");
            bail!("listener `{named}` refuses the host `{host}` (misdirected): its server_names are {names}");
        }
        return Ok(listener);
    }
    let mut fit: Vec<&Listener> = all.iter().copied().filter(|listener| takes(listener)).collect();
    if fit.len() > 1
        && let Some(port) = asked.port
        && fit.iter().any(|listener| listener.address.port() == port)
    {
        fit.retain(|listener| listener.address.port() == port);
    }
    match fit[..] {
        [only] => Ok(only),
        [] => {
            let host = asked.host.as_deref().unwrap_or_default();
            bail!(
                "no listener has `{}` among its server_names; there are {}",
                super::terminal::text(host),
                quoted(&all)
            )
        }
        _ => bail!("several listeners take that: {}; choose one by --listener", quoted(&fit)),
    }
}

fn takes(
    config: &Config,
    listener: &Listener,
    resolved: &Resolved<'_>,
    method: &str,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let route = resolved.route;
    write!(out, "route {}, path `{}`, kind {}", route.name(), route.path(), route.kind().label())?;
    for (what, list) in [("hosts", route.hosts()), ("listeners", route.listeners())] {
        if list.is_some() {
            write!(out, ", {what} {}", names(list))?;
        }
    }
    writeln!(out)?;
    let effect = if resolved.effect == Effect::ReadOnly { "changes nothing" } else { "may change something" };
    let what = [("operation", &resolved.operation), ("resource type", &resolved.resource_type)];
    write!(out, "{method} is action {}, class {}, and {effect}", resolved.action, resolved.class)?;
    for (what, value) in what {
        if let Some(value) = value {
            write!(out, ", {what} {}", super::terminal::text(value))?;
        }
    }
    writeln!(out)?;
    writeln!(out, "policies: {}", policies(listener))?;
    if let Some(service) = config.services.iter().find(|service| service.name == *route.service()) {
        writeln!(out, "service {}, backends {}", service.name, backends(service))?;
    }
    Ok(())
}

fn purpose(listener: &Listener) -> &'static str {
    match listener.tls.peers {
        ListenerPeers::Devices => "devices",
        ListenerPeers::Users(_) => "users with a certificate of their own",
        ListenerPeers::Patients(_) => "patients",
    }
}

/// Which policies can permit there; see `policy`.
const fn policies(listener: &Listener) -> &'static str {
    match listener.tls.peers {
        ListenerPeers::Devices => "every permit without @principal(\"patient\"), and every forbid",
        ListenerPeers::Users(_) => "every permit with @device(\"none\"), and every forbid",
        ListenerPeers::Patients(_) => "every permit with @principal(\"patient\"), and every forbid",
    }
}

fn backends(service: &Service) -> String {
    let scheme = if service.tls.is_some() { "https" } else { "http" };
    let all: Vec<_> = service.backends.iter().map(|backend| format!("{scheme}://{}", backend.authority)).collect();
    all.join(", ")
}

fn names(list: Option<&[Box<str>]>) -> String {
    list.unwrap_or_default().join(", ")
}

/// Why one route comes before another that could take the same request.
fn precedence(routes: &RouteTable, first: &policy::RouteName, behind: &Route) -> &'static str {
    let Some(first) = routes.routes().find(|route| route.name() == first) else { return "" };
    if first.hosts().is_some() != behind.hosts().is_some() {
        "it names the host"
    } else if first.path() != behind.path() {
        "its prefix is longer"
    } else {
        "it names the listener"
    }
}
