//! What lies in deploy/, checked by the libraries and tools of those who read it: there is no cluster, no Docker and no Grafana
//! where these tests run.

#[path = "support"]
#[expect(dead_code, reason = "each program uses its part")]
mod support {
    pub(crate) mod component;
}

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::component::{needs, python};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a program; its whole output, and whether it was content.
fn run(program: &Path, arguments: &[&str]) -> (String, bool) {
    let output = Command::new(program).args(arguments).current_dir(root("")).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (text, output.status.success())
}

/// Runs a tool of the virtual environment.
fn tool(name: &str, arguments: &[&str]) -> (String, bool) {
    run(&python().with_file_name(name), arguments)
}

/// Runs `tests/deploy/check.py`.
fn check(arguments: &[&str]) -> (String, bool) {
    tool("python", &[&["-B", "-W", "ignore", "tests/deploy/check.py"], arguments].concat())
}

/// The files of a folder with this ending, as arguments.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(root(folder)).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let names = entries.filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(ending));
    let mut files: Vec<_> = names.map(|name| format!("{folder}/{name}")).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} has nothing that ends in {ending}");
    files
}

#[test]
fn the_dockerfile_has_no_fault_that_hadolint_finds() {
    needs!("the_dockerfile_has_no_fault_that_hadolint_finds", "python");
    assert_eq!(tool("hadolint", &["--no-color", "Dockerfile"]), (String::new(), true));
    let dockerfile = fs::read_to_string(root("Dockerfile")).expect("it is there");
    let user = dockerfile.lines().filter_map(|line| line.strip_prefix("USER ")).next_back();
    assert_eq!(user, Some("1000:1000"), "no process of it runs as root");
}

#[test]
fn manifests_of_kubernetes_are_what_its_schemas_say() {
    needs!("manifests_of_kubernetes_are_what_its_schemas_say", "python");
    let all = files("deploy/kubernetes", ".yaml");
    let kustomization = fs::read_to_string(root("deploy/kubernetes/kustomization.yaml")).expect("it is there");
    for file in all.iter().filter(|file| !file.ends_with("kustomization.yaml")) {
        let (told, valid) = tool("kubernetes-validate", &["--strict", file]);
        assert!(valid && told.contains("passed for resource"), "{file}: {told}");
        let name = Path::new(file).file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(kustomization.contains(&format!("  - {name}\n")), "{name} is not in kustomization.yaml");
    }
}

#[test]
fn compose_files_are_what_their_specification_says() {
    needs!("compose_files_are_what_their_specification_says", "python");
    let all = files("deploy/compose", ".yaml").into_iter().filter(|file| !file.ends_with("/sluicegate.yaml"));
    let all: Vec<_> = all.collect();
    let arguments: Vec<_> = std::iter::once("compose").chain(all.iter().map(String::as_str)).collect();
    assert_eq!(check(&arguments), (String::new(), true));
}

/// Whether sluicegate takes a configuration, with the memory that Kubernetes would tell it in bytes.
fn checked(file: &Path) -> (String, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.arg("check").arg("--config").arg(file).env("MEMORY_LIMIT", (896_u64 << 20).to_string());
    let output = command.output().expect("it starts");
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.success())
}

#[test]
fn sluicegate_takes_its_configurations() {
    needs!("sluicegate_takes_its_configurations", "python");
    for file in
        ["deploy/docker/sluicegate.yaml", "deploy/compose/sluicegate.yaml", "deploy/cloudfoundry/sluicegate.yml"]
    {
        let (told, valid) = checked(&root(file));
        assert!(valid && !told.contains("WARN"), "{file}: {told}");
    }
    let dir = tempfile::tempdir().expect("temporary folder");
    let file = dir.path().join("sluicegate.yaml");
    let (config, found) = check(&["config", "deploy/kubernetes/config.yaml", "sluicegate.yaml"]);
    assert!(found, "{config}");
    // Also with the outputs that stand there as comments.
    let outputs = config.split("# outputs:").nth(1).expect("outputs as comments").replace("\n# ", "\n");
    for config in [config.clone(), format!("{config}\noutputs:{outputs}")] {
        fs::write(&file, &config).expect("written");
        let (told, valid) = checked(&file);
        assert!(valid, "{config}: {told}");
    }
}

#[test]
fn prometheus_takes_its_configuration() {
    needs!("prometheus_takes_its_configuration", "promtool");
    let (told, valid) = run(Path::new("promtool"), &["check", "config", "deploy/compose/prometheus.yml"]);
    assert!(valid, "{told}");
}

#[test]
fn the_manifest_of_cloud_foundry_is_one() {
    needs!("the_manifest_of_cloud_foundry_is_one", "python");
    let folder = "deploy/cloudfoundry";
    let told = check(&["manifest", &format!("{folder}/manifest.yml"), &format!("{folder}/vars.yml")]);
    assert_eq!(told, (String::new(), true));
    let (told, valid) = run(Path::new("bash"), &["-n", &format!("{folder}/routes")]);
    assert!(valid, "{told}");
}

#[test]
fn boards_have_no_key_that_grafana_does_not_know() {
    needs!("boards_have_no_key_that_grafana_does_not_know", "python");
    let boards =
        ["prometheus", "influxdb"].map(|source| files(&format!("deploy/grafana/dashboards/{source}"), ".json"));
    let boards: Vec<_> = boards.iter().flatten().map(String::as_str).collect();
    assert_eq!(check(&[&["boards"], &*boards].concat()), (String::new(), true));
}
