//! The pages that users log in at: HTML in Japanese and English, without scripts, usable by keyboard and screen reader (R32).

use std::fmt::Write as _;

use policy::account::{Profile, Standing, Weakness};
use policy::{AuthenticationLevel, UserName};

mod text;

pub use text::Language;
use text::Words;

/// Below it everything is the gateway's own.
pub const RESERVED: &str = "/.sekisho/";
/// Where a login begins.
pub const LOGIN: &str = "/.sekisho/login";
/// Where the second factor goes.
pub const FACTOR: &str = "/.sekisho/login/factor";
/// Where a new password goes.
pub const PASSWORD: &str = "/.sekisho/login/password";
/// Where a session ends.
pub const LOGOUT: &str = "/.sekisho/logout";
/// Where a user says for whom they act.
pub const ACT: &str = "/.sekisho/act";
/// How the pages look.
pub const STYLE: &str = "/.sekisho/style.css";

/// What a page may load and do: its own style, and forms to this host. No script, no frame, nothing from elsewhere (CSP Level 3).
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; \
frame-ancestors 'none'; require-trusted-types-for 'script'";

/// The style: colours that the reader chose, letters that can be made larger, a focus that is seen.
pub const CSS: &str = ":root{color-scheme:light dark}\
body{font:1.125rem/1.6 system-ui,sans-serif;margin:0 auto;max-width:32rem;padding:1rem}\
h1{font-size:1.5rem}label{display:block;margin-top:1rem}\
input,select{box-sizing:border-box;font:inherit;padding:.5rem;width:100%}\
button{font:inherit;margin-top:1.5rem;min-height:2.75rem;padding:.5rem 1.5rem}\
:focus-visible{outline:3px solid Highlight;outline-offset:2px}\
.alert{border:2px solid;border-left-width:.75rem;padding:.5rem 1rem}\
.notice{border-top:1px solid;margin-top:2rem;white-space:pre-line}.hint{font-size:1rem;margin:.25rem 0 0}";

/// What the reader is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page<'a> {
    /// Account and password.
    Login {
        /// What was typed before.
        account: &'a str,
    },
    /// The password, of whoever is logged in already.
    Again {
        /// Whose.
        user: &'a str,
    },
    /// Nothing: the account has no second factor, and one is needed.
    NoFactor {
        /// Whose.
        user: &'a str,
    },
    /// For whom the user acts.
    Act {
        /// Whose session it is.
        user: &'a str,
        /// For whom, if it is somebody.
        acting_for: Option<&'a str>,
        /// For whom that may be.
        choices: &'a [UserName],
    },
    /// A code.
    Factor,
    /// A new password.
    NewPassword {
        /// Why.
        standing: Standing,
        /// What it must be.
        profile: Profile,
        /// The account has an authenticator.
        second_factor: bool,
        /// The present password is asked for as well.
        present: bool,
    },
    /// Nothing: a session is there.
    SignedIn {
        /// Whose.
        user: &'a str,
        /// The gateway keeps the user's password.
        can_change: bool,
        /// For whom the user acts.
        acting_for: Option<&'a str>,
        /// Whether the user may act for anybody.
        may_act: bool,
    },
    /// Nothing: the session has ended.
    SignedOut,
    /// Nothing: the user logs in elsewhere.
    Elsewhere {
        /// Where that begins.
        again: &'a str,
        /// The way here was another site's, and may be no wish of the reader's: the link says that it is.
        asks: bool,
    },
}

/// What the reader must know before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alert {
    /// Account or password is not right; which, nobody is told.
    Failed,
    /// The code is not right, or was used.
    Code,
    /// Wait so many seconds.
    Wait(u64),
    /// Too many at once.
    Busy,
    /// The form is too old, or not ours.
    Form,
    /// The login took too long.
    Over,
    /// The new password is not good.
    Weak(Weakness),
    /// What was typed twice is not the same.
    Differ,
    /// The provider cannot be asked.
    Provider,
    /// Whoever decides about the user said no.
    Denied,
    /// The provider vouches for nobody who may be here.
    Unknown,
    /// The user may not act for that one.
    NotGranted,
}

/// A page.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// In which language.
    pub language: Language,
    /// The operator's warning; none: the one that ships.
    pub notice: Option<&'a str>,
    /// What its form carries.
    pub token: &'a str,
    /// Where the browser goes afterwards.
    pub target: Option<&'a str>,
    /// How strongly the user must be known there.
    pub level: Option<AuthenticationLevel>,
    /// What the reader must know before.
    pub alert: Option<Alert>,
    /// What is asked.
    pub page: Page<'a>,
}

impl View<'_> {
    /// The page. All that comes from elsewhere is escaped.
    #[must_use]
    pub fn html(&self) -> String {
        let words = self.language.words();
        let title = match self.page {
            Page::Login { .. } => words.login,
            Page::Again { .. } => words.again,
            Page::NoFactor { .. } => words.factor,
            Page::Act { .. } => words.act,
            Page::Factor => words.factor,
            Page::NewPassword { .. } => words.new_password,
            Page::SignedIn { .. } => words.signed_in,
            Page::SignedOut => words.signed_out,
            Page::Elsewhere { .. } => words.login,
        };
        let mut html = format!(
            "<!DOCTYPE html><html lang=\"{}\"><head><meta charset=\"utf-8\"><title>{title}</title>\
             <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"robots\" content=\"noindex\">\
             <link rel=\"stylesheet\" href=\"{STYLE}\"></head><body><main><h1>{title}</h1>",
            self.language.tag()
        );
        if let Some(alert) = self.alert {
            // INVARIANT: writing to a string does not fail, here and below.
            let _ = write!(html, "<p class=\"alert\" id=\"alert\" role=\"alert\">{}</p>", alert_text(words, alert));
        }
        self.body(words, &mut html);
        let notice = self.notice.unwrap_or(words.notice);
        let _ = write!(html, "</main><footer class=\"notice\"><p>{}</p></footer></body></html>", escaped(notice));
        html
    }

    fn body(&self, words: &Words, html: &mut String) {
        match self.page {
            Page::Login { account } => {
                self.open(LOGIN, html);
                let _ = write!(
                    html,
                    "<label for=\"account\">{}</label><input id=\"account\" name=\"account\" type=\"text\" \
                     autocomplete=\"username\" autocapitalize=\"none\" spellcheck=\"false\" maxlength=\"256\" required \
                     value=\"{}\"{}>",
                    words.account,
                    escaped(account),
                    if account.is_empty() { " autofocus" } else { "" },
                );
                let focus = !account.is_empty();
                secret_field(html, "password", words.password, "current-password", focus);
                close(html, words.submit_login);
            }
            Page::Again { user } => {
                let (label, name) = (words.user, escaped(user));
                let _ = write!(html, "<p>{}</p><p>{label}: {name}</p>", words.why_again);
                self.open(LOGIN, html);
                secret_field(html, "password", words.password, "current-password", true);
                close(html, words.submit_next);
            }
            Page::NoFactor { user } => {
                let (label, name) = (words.user, escaped(user));
                let _ = write!(html, "<p>{label}: {name}</p><p>{}</p>", words.no_factor);
            }
            Page::Act { user, acting_for, choices } => {
                let (label, name) = (words.user, escaped(user));
                let _ = write!(html, "<p>{label}: {name}</p>");
                if let Some(acting_for) = acting_for {
                    let _ = write!(html, "<p>{}: {}</p>", words.acts_for, escaped(acting_for));
                }
                if choices.is_empty() && acting_for.is_none() {
                    let _ = write!(html, "<p>{}</p>", words.no_grants);
                    return;
                }
                self.open(ACT, html);
                let _ = write!(
                    html,
                    "<label for=\"for\">{}</label><select id=\"for\" name=\"for\" autocomplete=\"off\" autofocus>\
                     <option value=\"\">{}</option>",
                    words.acts_for, words.nobody,
                );
                for choice in choices {
                    let name = escaped(choice.as_str());
                    let selected = if acting_for == Some(choice.as_str()) { " selected" } else { "" };
                    let _ = write!(html, "<option value=\"{name}\"{selected}>{name}</option>");
                }
                html.push_str("</select>");
                close(html, words.submit_next);
            }
            Page::Factor => {
                self.open(FACTOR, html);
                let _ = write!(
                    html,
                    "<label for=\"code\">{}</label><input id=\"code\" name=\"code\" type=\"text\" \
                     autocomplete=\"one-time-code\" autocapitalize=\"none\" spellcheck=\"false\" maxlength=\"64\" required \
                     autofocus aria-describedby=\"hint\"><p class=\"hint\" id=\"hint\">{}</p>",
                    words.code, words.code_hint,
                );
                close(html, words.submit_next);
            }
            Page::NewPassword { standing, profile, second_factor, present } => {
                let why = match standing {
                    Standing::MustChange => words.must_change,
                    Standing::Expired => words.expired,
                    Standing::Active | Standing::Disabled => words.may_change,
                };
                let rule = match profile {
                    Profile::Mic2009 => words.rule_mic.to_owned(),
                    Profile::Mhlw7 => {
                        words.rule_mhlw.replace("{}", &profile.least_characters(second_factor).to_string())
                    }
                };
                let _ = write!(html, "<p>{why}</p><p class=\"hint\" id=\"hint\">{rule}</p>");
                self.open(PASSWORD, html);
                if present {
                    secret_field(html, "password", words.present, "current-password", true);
                }
                secret_field(html, "new", words.new_password, "new-password", !present);
                secret_field(html, "repeat", words.repeat, "new-password", false);
                close(html, words.submit_next);
            }
            Page::SignedIn { user, can_change, acting_for, may_act } => {
                let (label, name) = (words.user, escaped(user));
                let _ = write!(html, "<p>{label}: {name}</p>");
                if let Some(acting_for) = acting_for {
                    let _ = write!(html, "<p>{}: {}</p>", words.acts_for, escaped(acting_for));
                }
                if may_act || acting_for.is_some() {
                    let _ = write!(html, "<p><a href=\"{ACT}\">{}</a></p>", words.act);
                }
                if can_change {
                    let _ = write!(html, "<p><a href=\"{PASSWORD}\">{}</a></p>", words.change);
                }
                self.open(LOGOUT, html);
                close(html, words.submit_logout);
            }
            Page::Elsewhere { again, asks } => {
                let mut query = Vec::new();
                if let Some(target) = self.target {
                    query.push(target.bytes().fold("return=".to_owned(), |query, byte| format!("{query}%{byte:02X}")));
                }
                if asks {
                    let _ = write!(html, "<p>{}</p>", words.from_elsewhere);
                    query.push(format!("go={}", self.token));
                }
                let (glue, query) = (if query.is_empty() { "" } else { "?" }, query.join("&amp;"));
                let _ = write!(html, "<p><a href=\"{}{glue}{query}\">{}</a></p>", escaped(again), words.login);
            }
            Page::SignedOut => {
                let _ = write!(html, "<p>{}</p><p><a href=\"{LOGIN}\">{}</a></p>", words.gone, words.login);
            }
        }
    }

    fn open(&self, action: &str, html: &mut String) {
        let _ = write!(
            html,
            "<form method=\"post\" action=\"{action}\" accept-charset=\"utf-8\">\
             <input type=\"hidden\" name=\"csrf\" value=\"{}\">",
            escaped(self.token)
        );
        if let Some(target) = self.target {
            let _ = write!(html, "<input type=\"hidden\" name=\"return\" value=\"{}\">", escaped(target));
        }
        if let Some(level) = self.level {
            let _ = write!(html, "<input type=\"hidden\" name=\"level\" value=\"{}\">", level.label());
        }
    }
}

fn secret_field(html: &mut String, name: &str, label: &str, autocomplete: &str, focus: bool) {
    let described = if autocomplete == "new-password" { " aria-describedby=\"hint\"" } else { "" };
    let focus = if focus { " autofocus" } else { "" };
    let _ = write!(
        html,
        "<label for=\"{name}\">{label}</label><input id=\"{name}\" name=\"{name}\" type=\"password\" \
         autocomplete=\"{autocomplete}\" maxlength=\"512\" required{described}{focus}>"
    );
}

fn close(html: &mut String, label: &str) {
    let _ = write!(html, "<button type=\"submit\">{label}</button></form>");
}

fn alert_text(words: &Words, alert: Alert) -> String {
    match alert {
        Alert::Failed => words.failed.to_owned(),
        Alert::Code => words.code_wrong.to_owned(),
        Alert::Wait(seconds) => words.wait.replace("{}", &seconds.to_string()),
        Alert::Busy => words.busy.to_owned(),
        Alert::Form => words.form.to_owned(),
        Alert::Over => words.over.to_owned(),
        Alert::Differ => words.differ.to_owned(),
        Alert::Provider => words.provider.to_owned(),
        Alert::Denied => words.denied.to_owned(),
        Alert::Unknown => words.unknown.to_owned(),
        Alert::NotGranted => words.not_granted.to_owned(),
        Alert::Weak(Weakness::Short(least)) => words.short.replace("{}", &least.to_string()),
        Alert::Weak(Weakness::OneKind) => words.one_kind.to_owned(),
        Alert::Weak(Weakness::Name) => words.name.to_owned(),
        Alert::Weak(Weakness::Common) => words.common.to_owned(),
        Alert::Weak(Weakness::Reused) => words.reused.to_owned(),
    }
}

/// Text that is text wherever it stands in HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVERY: [Page<'_>; 10] = [
        Page::Elsewhere { again: "/<b>", asks: true },
        Page::Again { user: "<i>" },
        Page::NoFactor { user: "<i>" },
        Page::Act { user: "<i>", acting_for: Some("<b>"), choices: &[] },
        Page::Login { account: "<b>\"'&" },
        Page::Factor,
        Page::NewPassword { standing: Standing::Expired, profile: Profile::Mhlw7, second_factor: true, present: false },
        Page::NewPassword {
            standing: Standing::Active,
            profile: Profile::Mic2009,
            second_factor: false,
            present: true,
        },
        Page::SignedIn { user: "<i>", can_change: true, acting_for: Some("<b>"), may_act: true },
        Page::SignedOut,
    ];

    fn view(language: Language, page: Page<'_>) -> String {
        let alert = Some(Alert::Weak(Weakness::Short(13)));
        View {
            language,
            notice: Some("<script>"),
            token: "t",
            target: Some("/a?b&\"<"),
            level: Some(AuthenticationLevel::TwoFactor),
            alert,
            page,
        }
        .html()
    }

    #[test]
    fn every_field_has_its_label_and_nothing_foreign_is_markup() {
        for language in [Language::Japanese, Language::English] {
            for page in EVERY {
                let html = view(language, page);
                assert!(
                    html.contains(&format!("<html lang=\"{}\">", language.tag())) && html.contains("role=\"alert\"")
                );
                for foreign in ["<script", "<b>", "<i>", "style=", "onload", "b&\""] {
                    assert!(!html.contains(foreign), "{foreign}: {html}");
                }
                let inputs: Vec<_> = html.split("<input id=\"").skip(1).collect();
                for input in inputs {
                    let id = input.split('"').next().unwrap();
                    assert!(html.contains(&format!("<label for=\"{id}\">")) && input.contains("autocomplete="), "{id}");
                }
                assert_eq!(html.matches("autofocus").count(), usize::from(html.contains("<label")), "{html}");
            }
        }
    }

    proptest! {
        #[test]
        fn escaped_text_is_no_markup(text in "\\PC{0,40}") {
            let safe = escaped(&text);
            prop_assert!(!safe.contains(['<', '>', '"', '\'']));
            let back = safe.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
            prop_assert_eq!(back.replace("&amp;", "&"), text);
        }
    }
}
