use super::*;

fn labels(text: &str) -> Labels {
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
    text.split(',').filter(|text| !text.is_empty()).map(pair).collect()
}

/// `key=value` pairs, one a line.
fn rule(text: &str) -> Result<Rule, Vec<RuleError>> {
    let mut spec = RuleSpec::default();
    for line in text.lines() {
        let (key, value) = line.trim().split_once('=').unwrap();
        let given = Some(value.to_owned());
        match key {
            "source_labels" => spec.source_labels = Some(value.split(',').map(str::to_owned).collect()),
            "separator" => spec.separator = given,
            "regex" => spec.regex = given,
            "target_label" => spec.target_label = given,
            "modulus" => spec.modulus = value.parse().ok(),
            "replacement" => spec.replacement = given,
            "action" => spec.action = Action::ALL.iter().find(|(name, _)| *name == value).unwrap().1,
            other => panic!("{other}"),
        }
    }
    Rule::try_new(spec)
}

/// The labels as the rules leave them, or `dropped`.
fn run(rules: &[&str], input: &str) -> String {
    let rules: Vec<_> = rules.iter().map(|text| rule(text).unwrap()).collect();
    let mut labels = labels(input);
    match apply(&rules, &mut labels) {
        Verdict::Drop => "dropped".to_owned(),
        Verdict::Keep => labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(","),
    }
}

#[test]
fn does_what_prometheus_documents() {
    let cases: &[(&str, &str, &str)] = &[
        // Replace: the whole value must match, groups fill the replacement.
        ("source_labels=a\ntarget_label=b", "a=x", "a=x,b=x"),
        (
            "source_labels=a\nregex=f(.*)\ntarget_label=d\nreplacement=ch${1}-ch${1}",
            "a=foo,b=bar",
            "a=foo,b=bar,d=choo-choo",
        ),
        ("source_labels=a\nregex=o\ntarget_label=d\nreplacement=x", "a=foo", "a=foo"),
        ("source_labels=a\nregex=a|foo\ntarget_label=d\nreplacement=x", "a=foobar", "a=foobar"),
        ("source_labels=a,b\nregex=foo;(b).*\ntarget_label=a\nreplacement=b${1}m", "a=foo,b=boo", "a=bbm,b=boo"),
        ("source_labels=a,b\nseparator=-\ntarget_label=c", "a=1,b=2", "a=1,b=2,c=1-2"),
        ("source_labels=a,missing\ntarget_label=c", "a=1", "a=1,c=1;"),
        (
            "source_labels=a\nregex=(?P<first>.)(?P<rest>.*)\ntarget_label=b\nreplacement=${rest}$first",
            "a=xyz",
            "a=xyz,b=yzx",
        ),
        ("source_labels=a\nregex=(.*)\ntarget_label=b\nreplacement=$$1", "a=x", "a=x,b=$1"),
        ("source_labels=a\nregex=(.*)\ntarget_label=b\nreplacement=$9", "a=x,b=y", "a=x"),
        ("source_labels=a\nregex=(.*)-(.*)\ntarget_label=${1}\nreplacement=${2}", "a=foo-bar", "a=foo-bar,foo=bar"),
        ("source_labels=a\nregex=(x)?(.*)\ntarget_label=$1\nreplacement=v", "a=y", "a=y"),
        ("target_label=b\nreplacement=v", "a=x", "a=x,b=v"),
        ("target_label=a\nreplacement=", "a=x,b=y", "b=y"),
        ("source_labels=a\nregex=1.2\ntarget_label=b\nreplacement=v", "a=1\n2", "a=1\n2,b=v"),
        ("source_labels=__name__\nregex=(.*)_total\ntarget_label=__name__", "__name__=x_total,a=1", "__name__=x,a=1"),
        // Keep and drop.
        ("action=keep\nsource_labels=a\nregex=f.*", "a=foo", "a=foo"),
        ("action=keep\nsource_labels=a\nregex=f", "a=foo", "dropped"),
        ("action=drop\nsource_labels=a\nregex=f.*", "a=foo", "dropped"),
        ("action=drop\nsource_labels=a\nregex=f", "a=foo", "a=foo"),
        ("action=drop\nsource_labels=missing\nregex=", "a=foo", "dropped"),
        ("action=keepequal\nsource_labels=a\ntarget_label=b", "a=1,b=1", "a=1,b=1"),
        ("action=keepequal\nsource_labels=a\ntarget_label=b", "a=1,b=2", "dropped"),
        ("action=dropequal\nsource_labels=a\ntarget_label=b", "a=1,b=1", "dropped"),
        ("action=dropequal\nsource_labels=a\ntarget_label=b", "a=1,b=2", "a=1,b=2"),
        ("action=dropequal\nsource_labels=x\ntarget_label=y", "a=1", "dropped"),
        // Expected numbers come from another MD5; 976 and 734 are also what Prometheus's own tests expect.
        ("action=hashmod\nsource_labels=a\ntarget_label=d\nmodulus=1000", "a=baz", "a=baz,d=976"),
        ("action=hashmod\nsource_labels=a\ntarget_label=d\nmodulus=1000", "a=foo\nbar", "a=foo\nbar,d=734"),
        ("action=hashmod\nsource_labels=a\ntarget_label=d\nmodulus=1000", "a=foo", "a=foo,d=696"),
        (
            "action=hashmod\nsource_labels=a\ntarget_label=d\nmodulus=18446744073709551615",
            "a=foo",
            "a=foo,d=17145033699835028696",
        ),
        // Names.
        ("action=labelmap\nregex=(my.*)\nreplacement=${1}_x", "myfirst=1,other=2", "myfirst=1,myfirst_x=1,other=2"),
        ("action=labelmap\nregex=my(.*)", "mya=1,myb=2", "a=1,b=2,mya=1,myb=2"),
        ("action=labeldrop\nregex=d.*", "a=1,d=2,dx=3", "a=1"),
        ("action=labelkeep\nregex=d.*", "a=1,d=2,dx=3", "d=2,dx=3"),
        ("action=labelkeep\nregex=none", "a=1", "dropped"),
        // Case.
        ("action=lowercase\nsource_labels=a\ntarget_label=b", "a=FoO", "a=FoO,b=foo"),
        ("action=uppercase\nsource_labels=a,b\ntarget_label=c", "a=x,b=y", "a=x,b=y,c=X;Y"),
    ];
    for (rule, input, expected) in cases {
        assert_eq!(run(&[rule], input), *expected, "{rule}\non {input}");
    }
}

#[test]
fn runs_rules_in_order_and_sorts() {
    let rules = ["source_labels=z\ntarget_label=b", "source_labels=b\ntarget_label=a\nreplacement=${1}${1}"];
    assert_eq!(run(&rules, "z=1,c=2"), "a=11,b=1,c=2,z=1");
    assert_eq!(run(&["action=drop\nsource_labels=a\nregex=1", "target_label=a"], "a=1"), "dropped");
    assert_eq!(run(&[], "b=1,a=2"), "a=2,b=1");
}

#[test]
fn refuses_rules_that_are_none() {
    for (text, expected) in [
        ("source_labels=a", &["target_label"][..]),
        ("target_label=", &["target_label"]),
        ("action=hashmod\nsource_labels=a", &["target_label", "modulus"]),
        ("action=hashmod\nsource_labels=a\ntarget_label=b\nmodulus=0", &["modulus"]),
        ("action=lowercase\ntarget_label=b\nreplacement=x", &["replacement"]),
        ("action=labeldrop\nregex=x\nsource_labels=a\nseparator=-", &["source_labels", "separator"]),
        ("action=keepequal\nsource_labels=a\ntarget_label=b\nregex=x", &["regex"]),
        ("action=keep\nregex=a(", &["regex"]),
        ("action=keep\nregex=a)|(b", &["regex"]),
        ("action=keep\nregex=\\w{1000}{1000}", &["regex"]),
    ] {
        let errors = rule(text).unwrap_err();
        assert_eq!(errors.iter().map(RuleError::key).collect::<Vec<_>>(), expected, "{text}: {errors:?}");
    }
    assert!(rule(&format!("action=keep\nregex={}", "a".repeat(REGEX_TEXT_MAX + 1))).is_err());
    assert!(rule(&format!("action=keep\nregex={}a{}", "(".repeat(1000), ")".repeat(1000))).is_err());
}

#[test]
fn passes_over_what_prometheus_passes_over() {
    assert_eq!(run(&["action=drop\nsource_labels=a\nregex=x\ntarget_label=b\nreplacement=c"], "a=1"), "a=1");
}
