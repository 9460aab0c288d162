use clap::{CommandFactory, Parser};

use super::Cli;

fn walk(tree: &clap::Command, path: &str, see: &mut impl FnMut(&str, &clap::Command)) {
    see(path, tree);
    for child in tree.get_subcommands().filter(|child| child.get_name() != "help") {
        walk(child, &format!("{path} {}", child.get_name()), see);
    }
}

#[test]
fn the_tree_is_sound() {
    Cli::command().debug_assert();
}

// Red when `audit export DIR` names its argument `dir`: it is then taken for `--dir` as well, and the vault is sought in DIR.
#[test]
fn no_argument_of_a_command_is_taken_for_one_of_all_commands() {
    let all = Cli::command();
    let globals: Vec<_> = all.get_arguments().filter(|arg| arg.is_global_set()).collect();
    assert!(globals.iter().any(|arg| arg.get_id() == "dir"));
    walk(&all, "strongroom", &mut |path, tree| {
        for own in tree.get_arguments().filter(|arg| !arg.is_global_set()) {
            assert!(globals.iter().all(|arg| arg.get_id() != own.get_id()), "{path} {own}");
        }
    });
}

#[test]
fn the_first_line_of_every_help_is_an_example_that_parses() {
    walk(&Cli::command(), "strongroom", &mut |path, tree| {
        let help = tree.clone().render_help().to_string();
        let first = help.lines().next().unwrap().to_owned();
        let example = first.strip_prefix("Example: ").unwrap_or_else(|| panic!("{path}: {first}"));
        let command =
            example.strip_prefix("eval \"$(").map_or(example, |rest| &rest[..rest.len() - 2]);
        let command = command.rsplit(" | ").next().unwrap();
        let command = command.split(" > ").next().unwrap();
        let words = command.split_whitespace().map(|word| word.trim_matches('\''));
        let words = join_quoted(words.collect());
        assert!(words.join(" ").starts_with(path), "{path}: {example}");
        if let Err(error) = Cli::try_parse_from(&words) {
            panic!("{path}: {example}: {error}");
        }
    });
}

/// `"POST /v1/x"` is one word.
fn join_quoted(words: Vec<&str>) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    let mut open = false;
    for word in words {
        if open && let Some(last) = joined.last_mut() {
            last.push(' ');
            last.push_str(word.trim_end_matches('"'));
            open = !word.ends_with('"');
            continue;
        }
        open = word.starts_with('"') && !word.ends_with('"');
        joined.push(word.trim_matches('"').to_owned());
    }
    joined
}

#[test]
fn a_secret_among_the_arguments_is_refused_and_not_repeated() {
    let secret = "sk-proj-very-secret-0123456789";
    for command in [
        &["strongroom", "unseal", secret][..],
        &["strongroom", "credential", "add", "openai", secret],
        &["strongroom", "credential", "rotate", "openai", secret],
    ] {
        let error = Cli::try_parse_from(command).unwrap_err().to_string();
        assert!(!error.contains(secret), "{error}");
        assert!(error.contains("never an argument"), "{error}");
    }
    for command in [
        &["strongroom", "unseal", "-"][..],
        &["strongroom", "credential", "add", "openai", "-"],
        &["strongroom", "credential", "rotate", "openai", "-"],
    ] {
        Cli::try_parse_from(command).unwrap();
    }
}

#[test]
fn no_option_is_named_like_a_secret_unless_it_names_a_descriptor() {
    walk(&Cli::command(), "strongroom", &mut |path, tree| {
        for argument in tree.get_arguments().filter_map(clap::Arg::get_long) {
            let suspicious = ["passphrase", "key", "secret", "share", "password"]
                .iter()
                .any(|word| argument.contains(word));
            let harmless = ["-fd", "-file"].iter().any(|end| argument.ends_with(end))
                || ["shares", "plain-shares"].contains(&argument);
            assert!(!suspicious || harmless, "{path} --{argument}");
        }
    });
}

#[test]
fn every_command_takes_json_and_dir() {
    for command in ["status", "credential list", "token list", "usage", "doctor", "audit tail"] {
        let words = ["strongroom"].into_iter().chain(command.split(' '));
        Cli::try_parse_from(words.chain(["--json", "--dir", "/d"])).unwrap();
    }
}

// Red when `--tenant` is taken and not heeded: whoever writes it would believe that one tenant is meant.
#[test]
fn a_command_about_the_whole_vault_refuses_a_tenant() {
    for (command, takes) in [
        ("user list", true),
        ("workspace list", true),
        ("token list", true),
        ("credential list", true),
        ("usage", true),
        ("audit search", true),
        ("audit tail", false),
        ("tenant list", false),
        ("provider list", false),
        ("seal", false),
        ("key rotate", false),
        ("backup create --to /b", false),
    ] {
        let words = ["strongroom", "--tenant", "acme"].into_iter().chain(command.split(' '));
        let cli = Cli::try_parse_from(words).unwrap();
        assert_eq!(cli.command.takes_a_tenant(), takes, "{command}");
        assert_eq!(cli.common.tenant.unwrap().0.as_ref(), "acme");
    }
}

#[test]
fn the_commands_are_those_of_the_golden_page() {
    let mut page = String::new();
    walk(&Cli::command(), "strongroom", &mut |path, tree| {
        page.push_str(path);
        for argument in tree.get_arguments() {
            let name = argument.get_long().map_or_else(
                || argument.get_id().as_str().to_uppercase(),
                |long| format!("--{long}"),
            );
            if !["--json", "--dir", "--demo", "--tenant", "--help", "--version"]
                .contains(&name.as_str())
            {
                page.push(' ');
                page.push_str(&name);
            }
        }
        page.push('\n');
    });
    let golden = include_str!("golden.txt");
    assert_eq!(page, golden, "the command line changed; the page would be:\n{page}");
}
