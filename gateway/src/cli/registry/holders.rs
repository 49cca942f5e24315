//! `sekisho user certificate`: who the holders of users' certificates are (R1).

use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use certs::peers::{Holder, subject_hash};
use certs::{hpki, pem};

use super::args::{HolderArgs, UserCertificateCommand};
use super::print::{self, Show};
use crate::store::{Kind, Store, UserCertificate, hash};

impl Show for UserCertificate {
    const KIND: Kind = Kind::UserCertificate;
    const COLUMNS: &'static [&'static str] = &["USER", "NUMBER", "ADDED", "ISSUER"];
    fn cells(&self) -> Vec<String> {
        vec![self.user_id().to_string(), self.number.clone(), self.added_at.clone(), self.issuer.clone()]
    }
    fn title(&self) -> String {
        self.name()
    }
}

pub(super) async fn run(
    command: UserCertificateCommand,
    store: &Store,
    actor: &str,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    match command {
        UserCertificateCommand::Add(arguments) => {
            let holder = holder(&arguments)?;
            let added = store.user_certificate_add(actor, &arguments.id, &holder).await?;
            print::done(&added, &format!("is user `{}`", arguments.id), json, out)?;
        }
        UserCertificateCommand::List { id } => {
            print::list(&store.user_certificate_list(id.as_ref()).await?, json, out)?;
        }
        UserCertificateCommand::Remove(arguments) => {
            let holder = holder(&arguments)?;
            let removed = store.user_certificate_remove(actor, &arguments.id, &holder).await?;
            print::removed(&[removed], json, out)?;
        }
    }
    Ok(())
}

/// Whom the arguments mean. A card is read as a listener reads it, so that one which no listener takes, such as a card for
/// signatures, is refused here.
fn holder(arguments: &HolderArgs) -> anyhow::Result<Holder> {
    if let Some(file) = &arguments.file {
        let card = first(file)?;
        return Ok(hpki::user_of(&card).with_context(|| format!("`{}`", file.display()))?.holder);
    }
    let (issuer, number) =
        arguments.issuer.as_deref().zip(arguments.number.clone()).context("name a card, or --issuer and --number")?;
    if !hpki::is_number(&number) {
        return Err(anyhow!("`{}` is no number: 1 to {} characters", number.escape_debug(), hpki::MAX_NUMBER_LENGTH));
    }
    let issuer = match issuer.to_str().and_then(hash) {
        Some(issuer) => issuer,
        None => subject_hash(&first(issuer)?).with_context(|| format!("`{}`", issuer.display()))?,
    };
    Ok(Holder { issuer, number })
}

fn first(file: &Path) -> anyhow::Result<Vec<u8>> {
    let named = || format!("`{}`", file.display());
    let all = pem::certificates_from_file(file).with_context(named)?;
    Ok(all.first().with_context(named)?.to_vec())
}
