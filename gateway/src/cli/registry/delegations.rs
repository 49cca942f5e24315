//! `sekisho user delegate`: who may act for whom (代行, R23).

use std::io::Write;

use clap::Subcommand;
use policy::UserName;

use super::args::user_id;
use super::print::{self, Show};
use crate::store::{Delegation, Edited, Kind, Store, UserId};

/// What to do with grants.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum DelegateCommand {
    /// Let a user act for another of the same site
    Add {
        /// Who may act: site and name
        #[arg(value_name = "SITE/USER", value_parser = user_id)]
        id: UserId,
        /// For whom
        #[arg(value_name = "FOR")]
        acts_for: UserName,
        /// When it ends, such as 2027-03-31T23:59:59+09:00; when it is removed unless said
        #[arg(long, value_name = "TIME", value_parser = time)]
        until: Option<i64>,
    },
    /// List every grant, or those of and for a user
    List {
        /// Site and name
        #[arg(value_name = "SITE/USER", value_parser = user_id)]
        id: Option<UserId>,
    },
    /// Take it back; whoever acts so at that moment stops within a second
    Remove {
        /// Who may act: site and name
        #[arg(value_name = "SITE/USER", value_parser = user_id)]
        id: UserId,
        /// For whom
        #[arg(value_name = "FOR")]
        acts_for: UserName,
    },
}

/// RFC 3339, in seconds since 1970.
fn time(text: &str) -> Result<i64, String> {
    let time: jiff::Timestamp = text.parse().map_err(|_| "it must be a time such as 2027-03-31T23:59:59+09:00")?;
    Ok(time.as_second())
}

impl Show for Delegation {
    const KIND: Kind = Kind::Delegation;
    const COLUMNS: &'static [&'static str] = &["USER", "ACTS FOR", "UNTIL", "ADDED"];
    fn cells(&self) -> Vec<String> {
        let until = self.until_s.map(|until| {
            jiff::Timestamp::from_second(until).map_or_else(|_| until.to_string(), |until| until.to_string())
        });
        let until = until.unwrap_or_else(|| "-".to_owned());
        vec![self.user_id().to_string(), self.acts_for.to_string(), until, self.added_at.clone()]
    }
    fn title(&self) -> String {
        self.name()
    }
}

pub(super) async fn run(
    command: DelegateCommand,
    store: &Store,
    actor: &str,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    match command {
        DelegateCommand::Add { id, acts_for, until } => {
            let Edited { entry, changed } = store.delegation_add(actor, &id, &acts_for, until).await?;
            print::done(&entry, if changed { "added" } else { "is so already; nothing changed" }, json, out)?;
        }
        DelegateCommand::List { id } => print::list(&store.delegation_list(id.as_ref()).await?, json, out)?,
        DelegateCommand::Remove { id, acts_for } => {
            print::removed(&[store.delegation_remove(actor, &id, &acts_for).await?], json, out)?;
        }
    }
    Ok(())
}
