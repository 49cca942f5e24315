//! What is refused at load, and where the error says it is.

use super::*;

fn problems(files: &[(&str, &str)]) -> Vec<String> {
    let sources =
        files.iter().map(|(file, text)| PolicySource { file: (*file).into(), text: (*text).into() }).collect();
    match Judge::load(sources, JudgeOptions::default()) {
        Ok(_) => Vec::new(),
        Err(error) => {
            assert_eq!(error.to_string().lines().count(), error.problems.len(), "{error}");
            error.problems.iter().map(ToString::to_string).collect()
        }
    }
}

fn one(text: &str) -> String {
    let problems = problems(&[("a.cedar", text)]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].clone()
}

#[test]
fn a_syntax_error_has_file_line_and_column() {
    let problem = one("permit(principal, action, resource);\n\n  // 注釈\n  permit(principal, acton, resource);");
    assert!(problem.starts_with("a.cedar:4:21: "), "{problem}");
    assert!(problem.contains("acton"), "{problem}");
}

#[test]
fn columns_count_characters() {
    let problem = one("@id(\"医師\") permit(principal, action, resource) when { context.colour == 1 };");
    assert!(problem.starts_with("a.cedar:1:54: "), "{problem}");
}

#[test]
fn validation_is_strict_and_names_the_place() {
    for (text, place, named) in [
        ("permit(principal, action, resource)\nwhen { context.colour == \"red\" };", "a.cedar:2:8: ", "colour"),
        ("permit(principal,\n action == Sekisho::Action::\"jump\", resource);", "a.cedar:2:", "jump"),
        ("permit(principal in\n Sekisho::Guild::\"x\", action, resource);", "a.cedar:2:", "Guild"),
        ("permit(principal, action, resource)\nwhen { context.hour == \"ten\" };", "a.cedar:2:8: ", ""),
        ("permit(principal, action, resource)\nwhen { context.operation == \"$x\" };", "a.cedar:2:8: ", "operation"),
        ("permit(principal, action, resource)\nwhen { context.hour };", "a.cedar:2:8: ", ""),
    ] {
        let problem = one(text);
        assert!(problem.starts_with(place) && problem.contains(named), "{text}: {problem}");
    }
}

#[test]
fn everything_wrong_in_every_file_is_reported_at_once() {
    let problems = problems(&[
        (
            "b.cedar",
            "permit(principal, action, resource) when { context.colour == 1 };\nforbid(principal, action, resource) when { context.size == 1 };",
        ),
        ("a.cedar", "permit(principal, action);"),
        ("c.cedar", "permit(principal, action, resource);"),
    ]);
    let places: Vec<_> = problems.iter().map(|problem| problem.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["a.cedar:1:25", "b.cedar:1:44", "b.cedar:2:44"], "{problems:?}");
}

#[test]
fn names_come_from_the_id_or_the_place() {
    let sources = vec![
        PolicySource { file: "a.cedar".into(), text: "permit(principal, action, resource);\n@id(\"x\") permit(principal, action, resource);\npermit(principal, action, resource);".into() },
        PolicySource { file: "待合 室.cedar".into(), text: "permit(principal, action, resource);".into() },
    ];
    let judge = Judge::load(sources, JudgeOptions::default()).unwrap();
    let names: Vec<_> = judge.policies().map(PolicyName::as_str).collect();
    assert_eq!(names, ["a.cedar#1", "a.cedar#3", "file1#1", "x"]);
    assert_eq!(judge.len(), 4);
}

#[test]
fn a_name_is_taken_once_and_safe_to_print() {
    let twice = problems(&[
        ("a.cedar", "@id(\"x\") permit(principal, action, resource);"),
        ("b.cedar", "\n@id(\"x\") forbid(principal, action, resource);"),
    ]);
    assert_eq!(twice, ["b.cedar:2:1: policy `x` has the name of another, at a.cedar:1"]);
    let posing = problems(&[
        ("a.cedar", "permit(principal, action, resource);"),
        ("b.cedar", "@id(\"a.cedar#1\") forbid(principal, action, resource);"),
    ]);
    assert_eq!(posing.len(), 1, "{posing:?}");
    let problem = one("@id(\"a\\u{1b}[2J\") permit(principal, action, resource);");
    assert!(problem.contains("is not a policy name") && !problem.contains('\u{1b}'), "{problem}");
    assert!(one("@id(\"\") permit(principal, action, resource);").contains("is not a policy name"));
}

#[test]
fn templates_are_refused_by_name() {
    let problem =
        one("permit(principal, action, resource);\n@id(\"slot\") permit(principal == ?principal, action, resource);");
    assert!(problem.starts_with("a.cedar:2:1: `slot` is a template"), "{problem}");
    let problem = one("permit(principal in ?principal, action, resource in ?resource);");
    assert!(problem.starts_with("a.cedar:1:1: `a.cedar#1` is a template"), "{problem}");
}

#[test]
fn sizes_and_depths_are_bounded() {
    let comment = format!("// {}", "x".repeat(MAX_FILE_BYTES));
    assert!(one(&comment).contains("bytes, at most 262144"));
    let many: Vec<(&str, &str)> = vec![("a", ""); MAX_FILES + 1];
    assert!(problems(&many)[0].contains("files, at most 256"));
    let large = "//".repeat(MAX_FILE_BYTES / 2);
    let much: Vec<(&str, &str)> = vec![("a", &large); 9];
    assert!(problems(&much)[0].contains("at most 2097152"));
    let deep =
        format!("permit(principal, action, resource) when {{ {}true{} }};", "(".repeat(100_000), ")".repeat(100_000));
    assert!(one(&deep).contains("nest deeper"));
    let quoted = format!(
        "permit(principal, action, resource) when {{ \"{}\" == \"\\\"(\" }}; // {}",
        "(".repeat(90),
        "{".repeat(90)
    );
    assert_eq!(problems(&[("a", &quoted)]), [] as [&str; 0]);
    for link in [" && true", " || true", " == 1 + 1", ".a", "[\"a\"]"] {
        let long = format!("permit(principal, action, resource) when {{ context{} }};", link.repeat(3_000));
        assert!(one(&long).contains("more than 400 operators"), "{link}");
    }
    let ifs =
        format!("permit(principal, action, resource) when {{ {} true }};", "if true then true else ".repeat(3_000));
    assert!(one(&ifs).contains("more than 400 operators"));
    let bangs = format!("permit(principal, action, resource) when {{ {}true }};", "!".repeat(60_000));
    assert!(!problems(&[("a", &bangs)]).is_empty());
}

/// The longest chains a policy may be: read, validated, explained and evaluated on a test thread's stack of 2 MiB.
#[test]
fn the_deepest_policy_is_still_evaluated() {
    let asked = Asked::new(&[], Action::Read, "clinical");
    for condition in [
        format!("context.hour == 10{}", " && context.hour == 10".repeat(190)),
        format!("true{}", " || true".repeat(390)),
        format!("context.hour{} == 10", " + 0".repeat(390)),
        format!("{}true", "if context.hour == 11 then false else ".repeat(190)),
        format!("{}true{}", "(".repeat(60), ")".repeat(60)),
    ] {
        let judge = load(&format!("permit(principal, action, resource) when {{ {condition} }};"));
        let decision = decide(&judge, &mut cache(), &asked);
        assert!(decision.is_ok(), "{decision:?} {condition}");
        assert_eq!(judge.explain(&asked.subject, &asked.request()).refusal, None);
    }
}

#[test]
fn an_impossible_policy_is_a_warning() {
    let judge = load("permit(principal, action, resource) when { false };");
    assert_eq!(judge.warnings().len(), 1);
    assert!(judge.warnings()[0].to_string().starts_with("test.cedar:1:1: "), "{:?}", judge.warnings());
}

#[test]
fn the_offset_from_utc_is_the_clinics() {
    assert!(UtcOffset::from_minutes(-721).is_none() && UtcOffset::from_minutes(841).is_none());
    let source = |hour: u8| PolicySource {
        file: "a".into(),
        text: format!("permit(principal, action, resource) when {{ context.hour == {hour} && context.weekday == 3 }};"),
    };
    let asked = Asked::new(&[], Action::Read, "clinical");
    for (minutes, hour) in [(540, 10), (0, 1), (60, 2), (765, 13)] {
        let options = JudgeOptions { utc_offset: UtcOffset::from_minutes(minutes).unwrap() };
        let judge = Judge::load(vec![source(hour)], options).unwrap();
        assert!(decide(&judge, &mut cache(), &asked).is_ok(), "{minutes}");
    }
}

#[test]
fn an_annotation_that_means_nothing_is_refused() {
    let permit = "permit(principal, action, resource);";
    let forbid = "forbid(principal, action, resource);";
    for (text, named) in [
        (format!("@device(\"any\") {permit}"), "`@device(\"any\")` means nothing; it must be `@device(\"none\")`"),
        (format!("@device {permit}"), "`@device(\"\")` means nothing"),
        (format!("@id(\"x\") @principal(\"device\") {permit}"), "policy `x`: `@principal(\"device\")` means nothing"),
        (format!("@device(\"none\") {forbid}"), "take `@device` away"),
        (format!("@principal(\"patient\") {forbid}"), "take `@principal` away"),
    ] {
        let problem = one(&format!("\n{text}"));
        assert!(problem.starts_with("a.cedar:2:1: policy `") && problem.contains(named), "{text}: {problem}");
    }
}

/// What may be absent has to be asked for, where it may be absent.
#[test]
fn validation_knows_whom_a_policy_is_for() {
    let reads_device = "(principal, action, resource) when { context.device.name == \"a\" };";
    let reads_site = "(principal, action, resource) when { principal.site == context.site };";
    let reads_patient = "(principal, action, resource) when { principal.id == \"1\" };";
    let none = "@device(\"none\")";
    let patient = "@principal(\"patient\")";
    let good = |text: String| problems(&[("a.cedar", text.as_str())]).is_empty();
    assert!(good(format!("permit{reads_device}")) && good(format!("permit{reads_site}")));
    assert!(!good(format!("permit{reads_patient}")));
    assert!(!good(format!("{none} permit{reads_device}")) && good(format!("{none} permit{reads_site}")));
    assert!(!good(format!("{none} permit{reads_patient}")) && good(format!("{patient} permit{reads_patient}")));
    assert!(!good(format!("{patient} permit{reads_device}")) && !good(format!("{patient} permit{reads_site}")));
    assert!(!good(format!("forbid{reads_device}")) && !good(format!("forbid{reads_site}")));
    assert!(good(
        "forbid(principal, action, resource) when { context has device && context.device.name == \"a\" };".to_owned()
    ));
}
