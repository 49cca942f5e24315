//! The gateway's own pages, where users log in (R1, R8, R9, R32): what lies below `/.sekisho/` on a listener with `login_page`.
//!
//! A password, a code of the second factor and a present password are attempts, and go through the login guard like those at a
//! backend. A right password where a second factor is asked for is taken back rather than counted as a success: otherwise it would
//! take the failures of guessed codes back with it.

pub(super) mod answer;
pub(super) mod forms;
mod session;

use std::sync::Arc;

use gateway_audit::record::LoginOutcome;
use http::{HeaderValue, Method, Request};
use policy::account::form::local_target;
use policy::account::{Next, Password, Proved, Standing};
use policy::login::{AccountName, Attempt, Ended, Origin, Reason, Spelling};
use policy::target::CanonicalTarget;
use policy::{Party, Refusal, SiteName, Subject};

use super::oidc;
use super::trail::Trail;
use crate::accounts::page::{Alert, FACTOR, LOGIN, LOGOUT, Language, PASSWORD, Page, RESERVED, STYLE};
use crate::accounts::stages::Stage;
use crate::accounts::{Accounts, Changed, Factor, REALM, actor, facts};
use crate::body::RequestBody;
use crate::clock::Clock as _;
use crate::listen::{Connection, network_of};
use crate::login::{Reservation, origin_of};
use crate::session::Session;
use crate::snapshot::Snapshot;
use crate::store::Credential;

pub(super) use answer::Own;
use answer::Reply;
use forms::{Posted, target_of};
pub(super) use session::{carry_own, find, of_request};

/// Whether the target is one of the gateway's own.
pub(super) fn takes(connection: &Connection, target: &CanonicalTarget<'_>) -> bool {
    connection.listener.has_pages() && target.path().starts_with(RESERVED)
}

/// A request for one of the gateway's own pages.
pub(super) struct Asked<'a> {
    pub(super) connection: &'a Connection,
    pub(super) snapshot: &'a Snapshot,
    pub(super) subject: &'a Arc<Subject>,
    pub(super) authority: &'a HeaderValue,
}

/// What all steps need.
struct Step<'a> {
    asked: &'a Asked<'a>,
    accounts: &'a Arc<Accounts>,
    site: SiteName,
    origin: Origin,
    language: Language,
    now_ns: u64,
    /// The login that is half done, and the name that its browser has.
    stage: Option<(String, Stage)>,
    session: Option<Arc<Session>>,
}

impl Asked<'_> {
    /// Answers it.
    ///
    /// # Errors
    /// The refusal of what is no page, or cannot be read.
    pub(super) async fn serve(
        &self,
        target: &CanonicalTarget<'_>,
        request: &mut Request<RequestBody>,
        trail: &mut Trail,
    ) -> Result<Own, Refusal> {
        if let Some(own) = Box::pin(oidc::serve(self, target, request, trail)).await? {
            return Ok(own);
        }
        let is_post = match *request.method() {
            Method::GET | Method::HEAD => false,
            Method::POST => true,
            _ => return Err(Refusal::MethodNotAllowed),
        };
        if target.path() == STYLE && !is_post {
            return Ok(answer::style());
        }
        let step = self.step(request, trail)?;
        if !is_post {
            let wanted = target_of(target)?;
            return match target.path() {
                LOGIN => Ok(step.show(wanted.as_deref())),
                FACTOR | PASSWORD => step.show_stage(target.path()).await,
                _ => Err(Refusal::RouteUnknown),
            };
        }
        if ![LOGIN, FACTOR, PASSWORD, LOGOUT].contains(&target.path()) {
            return Err(Refusal::RouteUnknown);
        }
        if target.query().is_some() {
            return Err(Refusal::LoginAmbiguous);
        }
        let body = forms::body(request, trail).await?;
        let form = forms::read(&body)?;
        let is_ours = forms::is_from_here(request.headers(), self.authority)
            && form.get("csrf").is_some_and(|token| step.accounts.tokens.knows(step.now_ns, &step.origin, token));
        let posted = Posted::of(&form)?;
        if !is_ours {
            return Ok(step.again(posted.target, Alert::Form, Refusal::LoginForm));
        }
        match target.path() {
            LOGIN => step.password(posted, trail).await,
            FACTOR => step.factor(posted, trail).await,
            PASSWORD => step.new_password(posted, trail).await,
            _ => step.log_out().await,
        }
    }

    fn step(&self, request: &Request<RequestBody>, trail: &Trail) -> Result<Step<'_>, Refusal> {
        // Accounts are of whoever sits at a device of a site.
        let Party::Device { device, .. } = &self.subject.party else { return Err(Refusal::RouteUnknown) };
        let accounts = self.connection.worker.accounts()?;
        let headers = request.headers();
        let origin = origin_of(&self.subject.party);
        let now_ns = self.connection.worker.clock.monotonic_ns();
        let name = forms::cookie(headers, answer::STAGE_COOKIE)?;
        let stage = name.and_then(|name| {
            let stages = accounts.stages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            stages.look(now_ns, &origin, &name).cloned().map(|stage| (name, stage))
        });
        Ok(Step {
            asked: self,
            accounts,
            site: device.site.clone(),
            origin,
            language: forms::language(headers),
            now_ns,
            stage,
            session: session::find(self.connection, self.subject, headers, trail)?,
        })
    }
}

/// A password or a code that may be compared: the attempt is where no crash forgets it.
type Taken = Result<Reservation, Own>;

impl Step<'_> {
    /// GET of the login page: the form, or how far this browser has come. With a target, whoever is logged in already may do it
    /// anew: something asked for it.
    fn show(&self, target: Option<&str>) -> Own {
        let page = match (&self.session, target) {
            (Some(session), None) => Page::SignedIn { user: &session.account, can_change: true },
            (Some(_), Some(_)) | (None, _) => Page::Login { account: "" },
        };
        self.reply(page).target(target).own()
    }

    /// GET of a later step.
    async fn show_stage(&self, path: &str) -> Result<Own, Refusal> {
        let Some((_, stage)) = &self.stage else {
            return Ok(match (&self.session, path) {
                (Some(_), PASSWORD) => self.reply(self.voluntary()).own(),
                _ => answer::see_other(LOGIN),
            });
        };
        let Some(found) = self.still(stage).await? else { return Ok(answer::see_other(LOGIN)) };
        Ok(match (self.next(&found, stage.proved), path) {
            (Next::SecondFactor, FACTOR) => self.reply(Page::Factor).own(),
            (Next::NewPassword(standing), PASSWORD) => self.reply(self.choose(&found, standing)).own(),
            (Next::SecondFactor, _) => answer::see_other(FACTOR),
            (Next::NewPassword(_), _) => answer::see_other(PASSWORD),
            (Next::Refuse | Next::Begin(_), _) => answer::see_other(LOGIN),
        })
    }

    /// POST of account and password.
    async fn password(&self, posted: Posted<'_>, trail: &mut Trail) -> Result<Own, Refusal> {
        let text = posted.account.ok_or(Refusal::LoginMalformed)?;
        let account = AccountName::new(text, Spelling::default()).map_err(|_| Refusal::LoginMalformed)?;
        let password = posted.password.ok_or(Refusal::LoginMalformed)?;
        let password = Password::new(password).map_err(|_| Refusal::LoginMalformed)?;
        let page = Page::Login { account: text };
        let reservation = match self.take(&account, page, posted.target, trail).await? {
            Ok(reservation) => reservation,
            Err(own) => return Ok(own),
        };
        let found = match self.accounts.verify(&self.site, &account, password).await {
            Ok(found) => found,
            Err(refusal) => return Ok(self.unanswered(reservation, page, posted.target, refusal, trail)),
        };
        let Some(found) = found else {
            trail.attempt_ends(LoginOutcome::Failure);
            reservation.settle(Ended::Failed);
            return Ok(self.reply(page).target(posted.target).alert(Alert::Failed, Refusal::LoginFailed).own());
        };
        let proved = Proved { password: true, second: false };
        let next = self.next(&found, proved);
        let (outcome, ended) = match next {
            Next::SecondFactor => (LoginOutcome::Incomplete, Ended::Withdrawn),
            Next::Refuse | Next::NewPassword(_) | Next::Begin(_) => (LoginOutcome::Success, Ended::Succeeded),
        };
        trail.attempt_ends(outcome);
        reservation.settle(ended);
        self.go_on(&account, *found, proved, posted.target.map(str::to_owned), trail).await
    }

    /// POST of a code.
    async fn factor(&self, posted: Posted<'_>, trail: &mut Trail) -> Result<Own, Refusal> {
        let code = posted.code.ok_or(Refusal::LoginMalformed)?;
        let Some((name, stage)) = &self.stage else { return Ok(self.over()) };
        let reservation = match self.take(&stage.account, Page::Factor, None, trail).await? {
            Ok(reservation) => reservation,
            Err(own) => return Ok(own),
        };
        let code = Factor::Code(zeroize::Zeroizing::new(code.to_owned()));
        let by = actor(&stage.user, &self.origin);
        let is_right = match self.accounts.factor(&self.site, &stage.account, code, by).await {
            Ok(is_right) => is_right,
            Err(refusal) => return Ok(self.unanswered(reservation, Page::Factor, None, refusal, trail)),
        };
        if !is_right {
            trail.attempt_ends(LoginOutcome::Failure);
            reservation.settle(Ended::Failed);
            return Ok(self.reply(Page::Factor).alert(Alert::Code, Refusal::LoginFailed).own());
        }
        trail.attempt_ends(LoginOutcome::Success);
        reservation.settle(Ended::Succeeded);
        let Some(stage) = self.finish(name) else { return Ok(self.over()) };
        let Some(found) = self.still(&stage).await? else { return Ok(self.over()) };
        let proved = Proved { second: true, ..stage.proved };
        self.go_on(&stage.account, found, proved, stage.target, trail).await
    }

    /// POST of a new password: within a login, or by whoever is logged in and shows the present one.
    async fn new_password(&self, posted: Posted<'_>, trail: &mut Trail) -> Result<Own, Refusal> {
        let (new, repeat) = (posted.new.ok_or(Refusal::LoginMalformed)?, posted.repeat.ok_or(Refusal::LoginMalformed)?);
        let new_password = Password::new(new).map_err(|_| Refusal::LoginMalformed)?;
        let Some((name, stage)) = &self.stage else {
            return self.change_own(posted, new_password, trail).await;
        };
        let Some(found) = self.still(stage).await? else { return Ok(self.over()) };
        let Next::NewPassword(standing) = self.next(&found, stage.proved) else { return Ok(self.over()) };
        let page = self.choose(&found, standing);
        if new != repeat {
            return Ok(self.reply(page).warn(Alert::Differ).own());
        }
        let attempt = self.attempt(&stage.account);
        if !self.asked.connection.worker.logins().admits(&attempt) {
            return Err(Refusal::RateLimited);
        }
        let by = actor(&stage.user, &self.origin);
        match self.accounts.change(&self.site, &stage.account, stage.password.clone(), new_password, by).await {
            Ok(Changed::Done) => {}
            Ok(Changed::Weak(weakness)) => return Ok(self.reply(page).warn(Alert::Weak(weakness)).own()),
            Ok(Changed::Elsewhere) => return Ok(self.over()),
            Err(refusal) => return Ok(self.reply(page).alert(Alert::Busy, refusal).own()),
        }
        let Some(stage) = self.finish(name) else { return Ok(self.over()) };
        let Some(found) = self.accounts.find(&self.site, &stage.account).await? else { return Ok(self.over()) };
        self.go_on(&stage.account, *found, stage.proved, stage.target, trail).await
    }

    /// The same outside a login.
    async fn change_own(&self, posted: Posted<'_>, new: Password, trail: &mut Trail) -> Result<Own, Refusal> {
        let Some(session) = self.session.as_ref().filter(|session| session.user.is_some()) else {
            return Ok(self.over());
        };
        let page = self.voluntary();
        let present = Password::new(posted.password.ok_or(Refusal::LoginMalformed)?);
        let present = present.map_err(|_| Refusal::LoginMalformed)?;
        if posted.new != posted.repeat {
            return Ok(self.reply(page).warn(Alert::Differ).own());
        }
        let account = AccountName::new(&session.account, Spelling::default()).map_err(|_| Refusal::InternalError)?;
        let reservation = match self.take(&account, page, None, trail).await? {
            Ok(reservation) => reservation,
            Err(own) => return Ok(own),
        };
        let found = match self.accounts.verify(&self.site, &account, present).await {
            Ok(found) => found,
            Err(refusal) => return Ok(self.unanswered(reservation, page, None, refusal, trail)),
        };
        let Some(found) = found else {
            trail.attempt_ends(LoginOutcome::Failure);
            reservation.settle(Ended::Failed);
            return Ok(self.reply(page).alert(Alert::Failed, Refusal::LoginFailed).own());
        };
        trail.attempt_ends(LoginOutcome::Success);
        reservation.settle(Ended::Succeeded);
        let by = actor(&found.user, &self.origin);
        match self.accounts.change(&self.site, &account, found.password, new, by).await {
            Ok(Changed::Done) => Ok(answer::see_other(LOGIN)),
            Ok(Changed::Weak(weakness)) => Ok(self.reply(page).warn(Alert::Weak(weakness)).own()),
            Ok(Changed::Elsewhere) => Ok(self.over()),
            Err(refusal) => Ok(self.reply(page).alert(Alert::Busy, refusal).own()),
        }
    }

    /// POST of the log-out.
    async fn log_out(&self) -> Result<Own, Refusal> {
        if let Some((name, _)) = &self.stage {
            self.finish(name);
        }
        if let Some(session) = &self.session {
            session::end(self.asked.connection, session).await?;
        }
        Ok(self.reply(Page::SignedOut).clear(answer::SESSION_COOKIE).clear(answer::STAGE_COOKIE).own())
    }

    /// What a login that has proved so much gets: its next form under a new name, or its session.
    async fn go_on(
        &self,
        account: &AccountName,
        found: Credential,
        proved: Proved,
        target: Option<String>,
        trail: &mut Trail,
    ) -> Result<Own, Refusal> {
        let path = match self.next(&found, proved) {
            Next::Refuse => return Ok(self.over()),
            Next::SecondFactor => FACTOR,
            Next::NewPassword(_) => PASSWORD,
            Next::Begin(level) => {
                let login =
                    session::Login { user: &found.user, level, proved, as_of: found.as_of, old: self.session.as_ref() };
                let secret = session::begin(self.asked, &login, trail).await?;
                let target = target.as_deref().and_then(local_target).unwrap_or(LOGIN);
                return Ok(answer::see_other(target)
                    .cookie(answer::SESSION_COOKIE, secret.as_str())
                    .clear(answer::STAGE_COOKIE));
            }
        };
        let stage = Stage {
            site: self.site.clone(),
            account: account.clone(),
            user: found.user,
            password: found.password,
            proved,
            target,
        };
        let kept = {
            let mut stages = self.accounts.stages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            stages.keep(self.now_ns, self.origin.clone(), stage)
        };
        let name = kept.map_err(|_| Refusal::InternalError)?.ok_or(Refusal::LoginUnavailable)?;
        Ok(answer::see_other(path).cookie(answer::STAGE_COOKIE, &name))
    }

    fn attempt(&self, account: &AccountName) -> Attempt {
        Attempt {
            realm: REALM.into(),
            account: account.clone(),
            origin: self.origin.clone(),
            address: network_of(self.asked.connection.source.ip()),
        }
    }

    /// Takes an attempt past the guard; what it is answered with where the guard says no.
    async fn take(
        &self,
        account: &AccountName,
        page: Page<'_>,
        target: Option<&str>,
        trail: &mut Trail,
    ) -> Result<Taken, Refusal> {
        let worker = &self.asked.connection.worker;
        let attempt = self.attempt(account);
        if !worker.logins().admits(&attempt) {
            return Err(Refusal::RateLimited);
        }
        trail.attempts(&attempt);
        if worker.is_draining() {
            return Err(Refusal::Draining);
        }
        let mut reservation = match worker.logins().reserve(attempt) {
            Ok(reservation) => reservation,
            Err(refused) => {
                let seconds = refused.retry_after_ns.div_ceil(1_000_000_000).max(1);
                let (outcome, refusal, alert) = match refused.reason {
                    Reason::Paused => (LoginOutcome::Paused, Refusal::LoginPaused, Alert::Wait(seconds)),
                    Reason::Locked => (LoginOutcome::Locked, Refusal::LoginLocked, Alert::Wait(seconds)),
                    Reason::Full => (LoginOutcome::Unavailable, Refusal::LoginUnavailable, Alert::Busy),
                };
                trail.attempt_ends(outcome);
                return Ok(Err(self.reply(page).target(target).alert(alert, refusal).retry_after(seconds).own()));
            }
        };
        if let Err(refusal) = reservation.sends().await {
            trail.attempt_ends(LoginOutcome::Unavailable);
            return Ok(Err(self.reply(page).target(target).alert(Alert::Busy, refusal).own()));
        }
        trail.attempt_ends(LoginOutcome::NoAnswer);
        Ok(Ok(reservation))
    }

    /// Nobody compared anything.
    fn unanswered(
        &self,
        reservation: Reservation,
        page: Page<'_>,
        target: Option<&str>,
        refusal: Refusal,
        trail: &mut Trail,
    ) -> Own {
        trail.attempt_ends(LoginOutcome::Unavailable);
        reservation.settle(Ended::Withdrawn);
        self.reply(page).target(target).alert(Alert::Busy, refusal).own()
    }

    fn next(&self, found: &Credential, proved: Proved) -> Next {
        facts(found).next(self.accounts.config().profile, self.accounts.now_s(), proved)
    }

    /// The account of a half-done login, if its password is still the one that was right.
    async fn still(&self, stage: &Stage) -> Result<Option<Credential>, Refusal> {
        let found = self.accounts.find(&self.site, &stage.account).await?;
        Ok(found.map(|found| *found).filter(|found| {
            found.enabled && found.password == stage.password && found.user == stage.user && self.site == stage.site
        }))
    }

    /// Ends a stage; whoever comes second with its name finds nothing.
    fn finish(&self, name: &str) -> Option<Stage> {
        let mut stages = self.accounts.stages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        stages.take(self.now_ns, &self.origin, name)
    }

    fn choose(&self, found: &Credential, standing: Standing) -> Page<'static> {
        let profile = self.accounts.config().profile;
        Page::NewPassword { standing, profile, second_factor: found.totp.is_some(), present: false }
    }

    fn voluntary(&self) -> Page<'static> {
        let profile = self.accounts.config().profile;
        // Whether there is an authenticator, the account says when it is read.
        Page::NewPassword { standing: Standing::Active, profile, second_factor: false, present: true }
    }

    /// The form again, because the one that came is not taken.
    fn again(&self, target: Option<&str>, alert: Alert, refusal: Refusal) -> Own {
        self.reply(Page::Login { account: "" }).target(target).alert(alert, refusal).own()
    }

    /// A login that took too long, or was finished elsewhere.
    fn over(&self) -> Own {
        self.again(None, Alert::Over, Refusal::LoginForm).clear(answer::STAGE_COOKIE)
    }

    fn reply<'a>(&'a self, page: Page<'a>) -> Reply<'a> {
        let config = self.accounts.config();
        Reply::new(config, self.language, self.accounts.tokens.make(self.now_ns, &self.origin), page)
    }
}
