//! The gateway's own pages, where users log in (R1, R8, R9, R32): what lies below `/.sekisho/` on a listener with `login_page`.
//!
//! A password, a code of the second factor and a present password are attempts, and go through the login guard like those at a
//! backend. A right password where a second factor is asked for is taken back rather than counted as a success: otherwise it would
//! take the failures of guessed codes back with it.

pub(super) mod answer;
pub(super) mod forms;
mod session;

use std::net::IpAddr;
use std::sync::Arc;

use gateway_audit::record::LoginOutcome;
use http::{HeaderValue, Method, Request};
use policy::account::form::local_target;
use policy::account::{Facts, Next, Password, Proved, Standing};
use policy::login::{AccountName, Attempt, Ended, Origin, Reason, Spelling};
use policy::session::Kind;
use policy::target::CanonicalTarget;
use policy::{AuthenticationLevel, Party, Refusal, SiteName, Subject, UserName};

use super::oidc;
use super::trail::Trail;
use crate::accounts::page::{ACT, Alert, FACTOR, LOGIN, LOGOUT, Language, PASSWORD, Page, RESERVED, STYLE};
use crate::accounts::stages::{Goal, Stage};
use crate::accounts::{Accounts, Changed, Factor, Factored, REALM, facts};
use crate::body::RequestBody;
use crate::clock::Clock as _;
use crate::listen::{Connection, network_of};
use crate::login::{Reservation, Start, origin_of};
use crate::session::Session;
use crate::snapshot::Snapshot;
use crate::store::Credential;

pub(super) use answer::{Own, forget, see_other};
use answer::{Reply, Wanted};
use forms::{Posted, Wiped, query_of};
pub(super) use session::{Brought, carry_own, find, of_request};

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
    /// Where the request comes from.
    pub(super) source: IpAddr,
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
            let query = query_of(target)?;
            let goal = Wanted { target: query.target.as_deref(), level: query.level };
            return match target.path() {
                LOGIN => step.show(goal).await,
                ACT => Ok(step.show_act(goal)),
                FACTOR | PASSWORD => Ok(step.show_stage(target.path())),
                _ => Err(Refusal::RouteUnknown),
            };
        }
        if ![LOGIN, FACTOR, PASSWORD, LOGOUT, ACT].contains(&target.path()) {
            return Err(Refusal::RouteUnknown);
        }
        if target.query().is_some() {
            return Err(Refusal::LoginAmbiguous);
        }
        let body = Wiped(forms::body(request, trail).await?);
        let form = forms::read(&body.0)?;
        let is_ours = forms::is_from_here(request.headers(), self.authority)
            && form.get("csrf").is_some_and(|token| step.accounts.tokens.knows(step.now_ns, &step.origin, token));
        let posted = Posted::of(&form)?;
        if !is_ours {
            return Ok(step.again(posted.goal, Alert::Form, Refusal::LoginForm));
        }
        match target.path() {
            LOGIN => step.password(posted, trail).await,
            FACTOR => step.factor(posted, trail).await,
            PASSWORD => step.new_password(posted, trail).await,
            ACT => step.act(posted, trail),
            _ => step.log_out().await,
        }
    }

    fn step(&self, request: &Request<RequestBody>, trail: &mut Trail) -> Result<Step<'_>, Refusal> {
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
        let session = match session::find(self.connection, self.subject, headers, trail) {
            // That is recorded and the session over, and whoever sits here may log in.
            Err(Refusal::SessionStolen) => None,
            found => found?,
        };
        Ok(Step {
            asked: self,
            accounts,
            site: device.site.clone(),
            origin,
            language: forms::language(headers),
            now_ns,
            stage,
            session,
        })
    }
}

/// A password or a code that may be compared: the attempt is where no crash forgets it. Whoever compares it asks [`Start`] first.
type Taken = Result<(Reservation, Start), Own>;

impl Step<'_> {
    /// GET of the login page: the form, or how far this browser has come. With a target, whoever is logged in already may do it
    /// anew: something asked for it. With a level, who is logged in proves it again, if that can be enough.
    async fn show(&self, goal: Wanted<'_>) -> Result<Own, Refusal> {
        if goal.level.is_some()
            && let Some(session) = self.own_session()
        {
            let account = account_of(session)?;
            let has_factor = goal.level != Some(AuthenticationLevel::TwoFactor)
                || self.accounts.find(&self.site, &account).await?.is_some_and(|found| found.totp.is_some());
            let user = &*session.account;
            let page = if has_factor { Page::Again { user } } else { Page::NoFactor { user } };
            return Ok(self.reply(page).goal(goal).own());
        }
        let acting = self.session.as_ref().and_then(|session| session.acting_for());
        let page = match (&self.session, goal.target) {
            (Some(session), None) => Page::SignedIn {
                user: &session.account,
                can_change: true,
                acting_for: acting.as_ref().map(|acting| acting.user.as_str()),
                may_act: !self.choices().is_empty(),
            },
            (Some(_), Some(_)) | (None, _) => Page::Login { account: "" },
        };
        Ok(self.reply(page).goal(goal).own())
    }

    /// The session that a login of ours raises. Kinds differ in who asks for the proof; a provider's is raised by the provider.
    fn own_session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref().filter(|session| session.kind == Kind::Local && session.user.is_some())
    }

    /// For whom the user may act.
    fn choices(&self) -> Vec<UserName> {
        let Some(user) = self.session.as_ref().and_then(|session| session.user.as_ref()) else { return Vec::new() };
        let now = self.asked.connection.worker.clock.now();
        let grants = self.asked.snapshot.directory.grants(self.site.as_str(), user, now.unix_ns);
        let mut choices: Vec<UserName> = grants.map(|grant| grant.acts_for.clone()).collect();
        choices.sort();
        choices
    }

    /// GET of the page that says for whom the user acts.
    fn show_act(&self, goal: Wanted<'_>) -> Own {
        match &self.session {
            Some(session) if session.user.is_some() => self.act_page(session, goal, None),
            Some(_) | None => answer::see_other(&format!("{LOGIN}?return={ACT}")),
        }
    }

    fn act_page(&self, session: &Session, goal: Wanted<'_>, alert: Option<(Alert, Refusal)>) -> Own {
        let (acting, choices) = (session.acting_for(), self.choices());
        let acting_for = acting.as_ref().map(|acting| acting.user.as_str());
        let reply = self.reply(Page::Act { user: &session.account, acting_for, choices: &choices }).goal(goal);
        match alert {
            Some((alert, refusal)) => reply.alert(alert, refusal).own(),
            None => reply.own(),
        }
    }

    /// POST of it: for whom, or for nobody.
    fn act(&self, posted: Posted<'_>, trail: &mut Trail) -> Result<Own, Refusal> {
        let Some(session) = self.session.as_ref().filter(|session| session.user.is_some()) else {
            return Ok(self.over());
        };
        let text = posted.acts_for.ok_or(Refusal::LoginMalformed)?;
        let acts_for = if text.is_empty() { None } else { Some(text) };
        let acts_for = acts_for.map(UserName::new).transpose().map_err(|_| Refusal::LoginMalformed)?;
        match session::act(self.asked, session, acts_for, trail) {
            Ok(secret) => {
                let target = posted.goal.target.unwrap_or(ACT);
                let own = answer::see_other(target);
                Ok(match session.kind {
                    Kind::Oidc => own.cookie_for_arrivals(answer::SESSION_COOKIE, secret.as_str()),
                    Kind::Local | Kind::Learnt => own.cookie(answer::SESSION_COOKIE, secret.as_str()),
                })
            }
            Err(Refusal::ActingNotGranted) => {
                let alert = (Alert::NotGranted, Refusal::ActingNotGranted);
                Ok(self.act_page(session, posted.goal, Some(alert)))
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// GET of a later step. It asks nobody: what became of the account meanwhile is looked at when the form comes.
    fn show_stage(&self, path: &str) -> Own {
        let Some((_, stage)) = &self.stage else {
            return match (&self.session, path) {
                (Some(_), PASSWORD) => self.reply(self.voluntary()).own(),
                _ => answer::see_other(LOGIN),
            };
        };
        match (self.next(stage.facts, stage.proved), path) {
            (Next::SecondFactor, FACTOR) => self.reply(Page::Factor).own(),
            (Next::NewPassword(standing), PASSWORD) => self.reply(self.choose(stage.facts, standing)).own(),
            (Next::SecondFactor, _) => answer::see_other(FACTOR),
            (Next::NewPassword(_), _) => answer::see_other(PASSWORD),
            (Next::Refuse | Next::Begin(_), _) => answer::see_other(LOGIN),
        }
    }

    /// POST of account and password.
    async fn password(&self, posted: Posted<'_>, trail: &mut Trail) -> Result<Own, Refusal> {
        let again = self.own_session().filter(|_| posted.account.is_none());
        let text = match (posted.account, again) {
            (Some(text), _) => text,
            (None, Some(session)) => &session.account,
            // The session ended while its user was asked for the password.
            (None, None) if posted.goal.level.is_some() => {
                return Ok(self.again(posted.goal, Alert::Over, Refusal::LoginForm));
            }
            (None, None) => return Err(Refusal::LoginMalformed),
        };
        let account = AccountName::new(text, Spelling::default()).map_err(|_| Refusal::LoginMalformed)?;
        let password = posted.password.ok_or(Refusal::LoginMalformed)?;
        let password = Password::new(password).map_err(|_| Refusal::LoginMalformed)?;
        let page = if again.is_some() { Page::Again { user: text } } else { Page::Login { account: text } };
        let (reservation, start) = match self.take(&account, page, posted.goal, trail).await? {
            Ok(taken) => taken,
            Err(own) => return Ok(own),
        };
        let found = match self.accounts.verify(&self.site, &account, password, (&self.origin, start)).await {
            Ok(found) => found,
            Err(refusal) => return Ok(self.unanswered(reservation, page, posted.goal, refusal, trail)),
        };
        let Some(found) = found else {
            trail.attempt_ends(LoginOutcome::Failure);
            reservation.settle(Ended::Failed);
            return Ok(self.reply(page).goal(posted.goal).alert(Alert::Failed, Refusal::LoginFailed).own());
        };
        let proved = Proved { password: true, second: None };
        let next = self.next(facts(&found), proved);
        let (outcome, ended) = match next {
            Next::SecondFactor => (LoginOutcome::Incomplete, Ended::Withdrawn),
            Next::Refuse | Next::NewPassword(_) | Next::Begin(_) => (LoginOutcome::Success, Ended::Succeeded),
        };
        trail.attempt_ends(outcome);
        reservation.settle(ended);
        let Wanted { target, level } = posted.goal;
        let goal = Goal { target: target.map(str::to_owned), level, again: again.is_some() };
        self.go_on(&account, found, proved, goal, trail).await
    }

    /// POST of a code.
    async fn factor(&self, posted: Posted<'_>, trail: &mut Trail) -> Result<Own, Refusal> {
        let code = posted.code.ok_or(Refusal::LoginMalformed)?;
        let Some((name, stage)) = &self.stage else { return Ok(self.over()) };
        if self.next(stage.facts, stage.proved) != Next::SecondFactor {
            return Ok(self.over());
        }
        // A code counts once: none is used up where no session could begin.
        if let Err(refusal) = self.asked.connection.worker.sessions().can_begin() {
            return Ok(self.reply(Page::Factor).alert(Alert::Busy, refusal).own());
        }
        let (reservation, start) = match self.take(&stage.account, Page::Factor, Wanted::default(), trail).await? {
            Ok(taken) => taken,
            Err(own) => return Ok(own),
        };
        let code = Factor::Code(zeroize::Zeroizing::new(code.to_owned()));
        let (found, second) = match self.accounts.factor(stage, code, (&self.origin, start)).await {
            Ok(Factored::Right(found, second)) => (*found, second),
            Ok(Factored::Wrong) => {
                trail.attempt_ends(LoginOutcome::Failure);
                reservation.settle(Ended::Failed);
                return Ok(self.reply(Page::Factor).alert(Alert::Code, Refusal::LoginFailed).own());
            }
            Ok(Factored::Over) => {
                trail.attempt_ends(LoginOutcome::NotSent);
                reservation.settle(Ended::Withdrawn);
                return Ok(self.over());
            }
            Err(refusal) => return Ok(self.unanswered(reservation, Page::Factor, Wanted::default(), refusal, trail)),
        };
        trail.attempt_ends(LoginOutcome::Success);
        reservation.settle(Ended::Succeeded);
        let Some(stage) = self.finish(name) else { return Ok(self.over()) };
        let proved = Proved { second: Some(second), ..stage.proved };
        self.go_on(&stage.account, found, proved, stage.goal, trail).await
    }

    /// POST of a new password: within a login, or by whoever is logged in and shows the present one.
    async fn new_password(&self, posted: Posted<'_>, trail: &mut Trail) -> Result<Own, Refusal> {
        let (new, repeat) = (posted.new.ok_or(Refusal::LoginMalformed)?, posted.repeat.ok_or(Refusal::LoginMalformed)?);
        let new_password = Password::new(new).map_err(|_| Refusal::LoginMalformed)?;
        let Some((name, stage)) = &self.stage else {
            return self.change_own(posted, new_password, trail).await;
        };
        let Next::NewPassword(standing) = self.next(stage.facts, stage.proved) else { return Ok(self.over()) };
        let page = self.choose(stage.facts, standing);
        if new != repeat {
            return Ok(self.reply(page).warn(Alert::Differ).own());
        }
        self.admits(&self.attempt(&stage.account))?;
        let found = match self.accounts.change(stage, new_password, &self.origin).await {
            Ok(Changed::Done(found)) => found,
            Ok(Changed::Weak(weakness)) => return Ok(self.reply(page).warn(Alert::Weak(weakness)).own()),
            Ok(Changed::Elsewhere) => return Ok(self.over()),
            Err(refusal) => return Ok(self.reply(page).alert(Alert::Busy, refusal).own()),
        };
        let Some(stage) = self.finish(name) else { return Ok(self.over()) };
        self.go_on(&stage.account, *found, stage.proved, stage.goal, trail).await
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
        let account = account_of(session)?;
        // The passwords before cost a hash each: it is more than one attempt.
        self.admits(&self.attempt(&account))?;
        let (reservation, start) = match self.take(&account, page, Wanted::default(), trail).await? {
            Ok(taken) => taken,
            Err(own) => return Ok(own),
        };
        let found = match self.accounts.verify(&self.site, &account, present, (&self.origin, start)).await {
            Ok(found) => found,
            Err(refusal) => return Ok(self.unanswered(reservation, page, Wanted::default(), refusal, trail)),
        };
        let Some(found) = found else {
            trail.attempt_ends(LoginOutcome::Failure);
            reservation.settle(Ended::Failed);
            return Ok(self.reply(page).alert(Alert::Failed, Refusal::LoginFailed).own());
        };
        trail.attempt_ends(LoginOutcome::Success);
        reservation.settle(Ended::Succeeded);
        let proved = Stage::of(&account, &found, Proved { password: true, second: None }, Goal::default());
        match self.accounts.change(&proved, new, &self.origin).await {
            Ok(Changed::Done(_)) => Ok(answer::see_other(LOGIN)),
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
        goal: Goal,
        trail: &mut Trail,
    ) -> Result<Own, Refusal> {
        let stage = Stage::of(account, &found, proved, goal);
        let path = match self.next(stage.facts, proved) {
            Next::Refuse => return Ok(self.over()),
            Next::SecondFactor => FACTOR,
            Next::NewPassword(_) => PASSWORD,
            Next::Begin(level) => {
                let login =
                    session::Login { user: &found.user, level, proved, as_of: found.as_of, old: self.session.as_ref() };
                let again =
                    self.own_session().filter(|old| stage.goal.again && old.user.as_ref() == Some(&found.user.user));
                let secret = match again {
                    // Whatever changes the account ends the session that goes on.
                    Some(session) => match self.accounts.still(&stage).await? {
                        Some(_) => session::raise(self.asked, &login, session, trail)?,
                        None => return Ok(self.over()),
                    },
                    None => {
                        let (secret, session) = session::begin(self.asked, &login, trail).await?;
                        // A change of the account that comes now finds the session and ends it; one before is found here.
                        let still = self.accounts.still(&stage).await;
                        if !matches!(still, Ok(Some(_))) {
                            session::revoke(self.asked.connection, &session);
                            return still.map(|_| self.over());
                        }
                        secret
                    }
                };
                // What was asked for would ask again, for ever.
                let own = if stage.goal.level.is_some_and(|wanted| wanted > level) {
                    self.reply(Page::NoFactor { user: found.user.user.as_str() }).own()
                } else {
                    answer::see_other(stage.goal.target.as_deref().and_then(local_target).unwrap_or(LOGIN))
                };
                return Ok(own.cookie(answer::SESSION_COOKIE, secret.as_str()).clear(answer::STAGE_COOKIE));
            }
        };
        Ok(answer::see_other(path).cookie(answer::STAGE_COOKIE, &self.keep(stage)?))
    }

    /// Remembers how far a login has come. Returns the name that its browser gets.
    fn keep(&self, stage: Stage) -> Result<String, Refusal> {
        let kept = {
            let mut stages = self.accounts.stages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            stages.keep(self.now_ns, self.origin.clone(), stage)
        };
        kept.map_err(|_| Refusal::InternalError)?.ok_or(Refusal::LoginUnavailable)
    }

    /// Counts what is going to cost something, before it does.
    fn admits(&self, attempt: &Attempt) -> Result<(), Refusal> {
        self.asked.connection.worker.logins().admits(attempt).then_some(()).ok_or(Refusal::RateLimited)
    }

    fn attempt(&self, account: &AccountName) -> Attempt {
        Attempt {
            realm: REALM.into(),
            account: account.clone(),
            origin: self.origin.clone(),
            address: network_of(self.asked.source),
        }
    }

    /// Takes an attempt past the guard; what it is answered with where the guard says no.
    async fn take(
        &self,
        account: &AccountName,
        page: Page<'_>,
        goal: Wanted<'_>,
        trail: &mut Trail,
    ) -> Result<Taken, Refusal> {
        let worker = &self.asked.connection.worker;
        let attempt = self.attempt(account);
        self.admits(&attempt)?;
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
                return Ok(Err(self.reply(page).goal(goal).alert(alert, refusal).retry_after(seconds).own()));
            }
        };
        match reservation.stored().await {
            Ok(start) => {
                trail.attempt_waits(start.clone());
                Ok(Ok((reservation, start)))
            }
            Err(refusal) => {
                trail.attempt_ends(LoginOutcome::Unavailable);
                Ok(Err(self.reply(page).goal(goal).alert(Alert::Busy, refusal).own()))
            }
        }
    }

    /// Nobody compared anything.
    fn unanswered(
        &self,
        reservation: Reservation,
        page: Page<'_>,
        goal: Wanted<'_>,
        refusal: Refusal,
        trail: &mut Trail,
    ) -> Own {
        trail.attempt_ends(LoginOutcome::Unavailable);
        reservation.settle(Ended::Withdrawn);
        self.reply(page).goal(goal).alert(Alert::Busy, refusal).own()
    }

    fn next(&self, facts: Facts, proved: Proved) -> Next {
        facts.next(self.accounts.config().profile, self.accounts.now_s(), proved)
    }

    /// Ends a stage; whoever comes second with its name finds nothing.
    fn finish(&self, name: &str) -> Option<Stage> {
        let mut stages = self.accounts.stages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        stages.take(self.now_ns, &self.origin, name)
    }

    fn choose(&self, facts: Facts, standing: Standing) -> Page<'static> {
        let profile = self.accounts.config().profile;
        Page::NewPassword { standing, profile, second_factor: facts.totp, present: false }
    }

    fn voluntary(&self) -> Page<'static> {
        let profile = self.accounts.config().profile;
        // Whether there is an authenticator, the account says when it is read.
        Page::NewPassword { standing: Standing::Active, profile, second_factor: false, present: true }
    }

    /// The form again, because the one that came is not taken.
    fn again(&self, goal: Wanted<'_>, alert: Alert, refusal: Refusal) -> Own {
        self.reply(Page::Login { account: "" }).goal(goal).alert(alert, refusal).own()
    }

    /// A login that took too long, or was finished elsewhere.
    fn over(&self) -> Own {
        self.again(Wanted::default(), Alert::Over, Refusal::LoginForm).clear(answer::STAGE_COOKIE)
    }

    fn reply<'a>(&'a self, page: Page<'a>) -> Reply<'a> {
        let config = self.accounts.config();
        Reply::new(config, self.language, self.accounts.tokens.make(self.now_ns, &self.origin), page)
    }
}

/// The account of a session of ours.
fn account_of(session: &Session) -> Result<AccountName, Refusal> {
    AccountName::new(&session.account, Spelling::default()).map_err(|_| Refusal::InternalError)
}
