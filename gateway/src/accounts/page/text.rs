//! The words of the pages.

/// A language of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// 日本語.
    Japanese,
    /// English.
    English,
}

/// Everything that a page says. `{}` stands for a number.
pub(super) struct Words {
    pub(super) login: &'static str,
    pub(super) account: &'static str,
    pub(super) password: &'static str,
    pub(super) submit_login: &'static str,
    pub(super) submit_next: &'static str,
    pub(super) submit_logout: &'static str,
    pub(super) factor: &'static str,
    pub(super) code: &'static str,
    pub(super) code_hint: &'static str,
    pub(super) new_password: &'static str,
    pub(super) present: &'static str,
    pub(super) change: &'static str,
    pub(super) repeat: &'static str,
    pub(super) must_change: &'static str,
    pub(super) expired: &'static str,
    pub(super) may_change: &'static str,
    pub(super) rule_mic: &'static str,
    pub(super) rule_mhlw: &'static str,
    pub(super) signed_in: &'static str,
    pub(super) signed_out: &'static str,
    pub(super) gone: &'static str,
    pub(super) user: &'static str,
    pub(super) failed: &'static str,
    pub(super) code_wrong: &'static str,
    pub(super) wait: &'static str,
    pub(super) busy: &'static str,
    pub(super) form: &'static str,
    pub(super) over: &'static str,
    pub(super) differ: &'static str,
    pub(super) short: &'static str,
    pub(super) one_kind: &'static str,
    pub(super) name: &'static str,
    pub(super) common: &'static str,
    pub(super) reused: &'static str,
    pub(super) provider: &'static str,
    pub(super) denied: &'static str,
    pub(super) unknown: &'static str,
    pub(super) from_elsewhere: &'static str,
    pub(super) again: &'static str,
    pub(super) why_again: &'static str,
    pub(super) no_factor: &'static str,
    pub(super) act: &'static str,
    pub(super) acts_for: &'static str,
    pub(super) nobody: &'static str,
    pub(super) no_grants: &'static str,
    pub(super) not_granted: &'static str,
    pub(super) notice: &'static str,
}

impl Language {
    /// The one of the two that the reader likes better (RFC 9110 section 12.5.4); Japanese where that is not said.
    #[must_use]
    pub fn of(accept_language: Option<&str>) -> Self {
        let Some(accepted) = accept_language else { return Self::Japanese };
        let mut best: Option<(Self, f32)> = None;
        for range in accepted.split(',').take(32) {
            let mut parts = range.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default().split('-').next().unwrap_or_default();
            let language = match tag {
                tag if tag.eq_ignore_ascii_case("ja") || tag == "*" => Self::Japanese,
                tag if tag.eq_ignore_ascii_case("en") => Self::English,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok());
            let weight = weight.filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(0.0);
            if weight > 0.0 && best.is_none_or(|(_, known)| weight > known) {
                best = Some((language, weight));
            }
        }
        // Whoever reads neither may rather read English.
        best.map_or(Self::English, |(language, _)| language)
    }

    /// Its tag (BCP 47).
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Japanese => "ja",
            Self::English => "en",
        }
    }

    pub(super) const fn words(self) -> &'static Words {
        match self {
            Self::Japanese => &JAPANESE,
            Self::English => &ENGLISH,
        }
    }
}

const JAPANESE: Words = Words {
    login: "ログイン",
    account: "利用者ID",
    password: "パスワード",
    submit_login: "ログイン",
    submit_next: "次へ",
    submit_logout: "ログアウト",
    factor: "二要素認証",
    code: "確認コード",
    code_hint: "認証アプリに表示される6桁の数字、または復旧コードを入力してください。",
    new_password: "新しいパスワード",
    present: "現在のパスワード",
    change: "パスワードの変更",
    repeat: "新しいパスワード（確認）",
    must_change: "パスワードを変更してください。現在のパスワードは初回限り、または規定を満たしていません。",
    expired: "パスワードの有効期限が切れています。新しいパスワードを設定してください。",
    may_change: "新しいパスワードを設定してください。",
    rule_mic: "8文字以上で、英字・数字・記号をすべて含めてください。利用者IDや推測されやすい語、以前のパスワードは使えません。",
    rule_mhlw: "{}文字以上にしてください。利用者IDや推測されやすい語、以前のパスワードは使えません。",
    signed_in: "ログイン中",
    signed_out: "ログアウトしました",
    gone: "この端末でのログインは終了しました。",
    user: "利用者",
    failed: "利用者IDまたはパスワードが正しくありません。",
    code_wrong: "確認コードが正しくないか、使用済みです。",
    wait: "しばらくお待ちください。{}秒後にもう一度お試しください。",
    busy: "ただいま混み合っています。しばらくしてからもう一度お試しください。",
    form: "入力画面の有効期限が切れました。もう一度入力してください。",
    over: "時間が経過したため、最初からやり直してください。",
    differ: "確認用のパスワードが一致しません。",
    short: "パスワードは{}文字以上にしてください。",
    one_kind: "パスワードには英字・数字・記号をすべて含めてください。",
    name: "パスワードに利用者ID、氏名、施設名を含めることはできません。",
    common: "このパスワードは推測されやすいため使用できません。",
    reused: "以前に使用したパスワードは使用できません。",
    provider: "認証サービスに接続できません。しばらくしてからもう一度お試しください。",
    denied: "認証サービスでのログインが完了しませんでした。",
    unknown: "この利用者は、この端末では利用できません。管理者にお問い合わせください。",
    from_elsewhere: "別のサイトから移動してきました。ログインすると、この端末での現在のログインは終了します。",
    again: "本人確認",
    why_again: "この操作には、改めて本人確認が必要です。",
    no_factor: "この操作には二要素認証が必要ですが、この利用者IDには登録されていません。管理者に登録を依頼してください。",
    act: "代行",
    acts_for: "代行する相手",
    nobody: "代行しない",
    no_grants: "代行できる相手がいません。代行の許可は管理者が登録します。",
    not_granted: "その利用者の代行は許可されていません。",
    notice: "許可された方以外の利用を禁じます。操作は記録され、不正な利用は法令により罰せられることがあります。",
};

const ENGLISH: Words = Words {
    login: "Log in",
    account: "User name",
    password: "Password",
    submit_login: "Log in",
    submit_next: "Continue",
    submit_logout: "Log out",
    factor: "Second factor",
    code: "Code",
    code_hint: "The six digits that your authenticator shows, or a recovery code.",
    new_password: "New password",
    present: "Present password",
    change: "Change password",
    repeat: "New password, again",
    must_change: "Please change your password: the present one was for the first login only, or does not meet the rules.",
    expired: "Your password has expired. Please choose a new one.",
    may_change: "Please choose a new password.",
    rule_mic: "At least 8 characters, with letters, digits and other characters. Not your user name, nothing that is easily \
               guessed, and none that you used before.",
    rule_mhlw: "At least {} characters. Not your user name, nothing that is easily guessed, and none that you used before.",
    signed_in: "Logged in",
    signed_out: "Logged out",
    gone: "You are logged out at this device.",
    user: "User",
    failed: "The user name or the password is not right.",
    code_wrong: "The code is not right, or was used before.",
    wait: "Please wait. You can try again in {} seconds.",
    busy: "Too many at once. Please try again in a moment.",
    form: "The form was open for too long. Please fill it in again.",
    over: "That took too long. Please begin again.",
    differ: "The two new passwords are not the same.",
    short: "The password must have at least {} characters.",
    one_kind: "The password must have letters, digits and other characters.",
    name: "The password must not hold your user name, your name or the clinic's.",
    common: "The password is easily guessed. Please choose another.",
    reused: "You have used that password before. Please choose another.",
    provider: "The login service cannot be reached. Please try again in a moment.",
    denied: "The login service did not log you in.",
    unknown: "You cannot be logged in at this device. Please ask your administrator.",
    from_elsewhere: "Another site sent you here. If you log in, whoever is logged in at this device is logged out.",
    again: "Confirm that it is you",
    why_again: "What you asked for needs you to prove again who you are.",
    no_factor: "What you asked for needs a second factor, and your account has none. Please ask your administrator for one.",
    act: "Act for somebody",
    acts_for: "Acting for",
    nobody: "Nobody",
    no_grants: "You may act for nobody. An administrator can grant it.",
    not_granted: "You may not act for that user.",
    notice: "For authorised users only. What you do is recorded, and unauthorised use may be prosecuted.",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_one_that_the_reader_likes_better() {
        for (accepted, expected) in [
            (None, Language::Japanese),
            (Some("ja"), Language::Japanese),
            (Some("en-GB,en;q=0.9"), Language::English),
            (Some("en;q=0.5, ja-JP;q=0.8"), Language::Japanese),
            (Some("ja;q=0.1,en;q=0.9"), Language::English),
            (Some("fr"), Language::English),
            (Some("*"), Language::Japanese),
            (Some("ja;q=0,en;q=0.1"), Language::English),
            (Some(";;,,q="), Language::English),
            (Some("ja;q=nan"), Language::English),
        ] {
            assert_eq!(Language::of(accepted), expected, "{accepted:?}");
        }
    }
}
