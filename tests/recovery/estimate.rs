//! What a plan says that it will fetch is what it fetches, counted on the line to a real store.

use crate::harness::{Mysqld, Proxy, SeaweedFs};
use crate::place::{SERVER, archive, planned};
use crate::workload::{Moment, Workload};
use crate::workspace::{Workspace, code, stderr};

/// Bytes that `GET`s of archive objects asked for: a range, or all of the object, which `sizes` knows by its key.
fn asked_for(heads: &[String], sizes: &[(String, u64)]) -> u64 {
    let of_logs = heads
        .iter()
        .filter(|head| head.starts_with("GET ") && head.contains("/log/"));
    let bytes = |head: &String| {
        let range = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("range")
                .then(|| value.trim().to_owned())
        });
        let Some(range) = range else {
            let whole = sizes.iter().find(|(key, _)| head.contains(key.as_str()));
            return whole.unwrap_or_else(|| panic!("{head}")).1;
        };
        let (first, last) = range.trim_start_matches("bytes=").split_once('-').unwrap();
        last.parse::<u64>().unwrap() - first.parse::<u64>().unwrap() + 1
    };
    of_logs.map(bytes).sum()
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn the_bytes_and_files_of_a_plan_are_those_that_are_fetched() {
    let mysqld = Mysqld::start(SERVER);
    let mut workload = Workload::begin(&mysqld, 21);
    let blob = "INSERT INTO b.j (j, b) VALUES ('{}', REPEAT(RANDOM_BYTES(1000), 3000))";
    let mut moments: Vec<Moment> = Vec::new();
    for _ in 0..4 {
        workload.work(&mysqld);
        mysqld.sql(blob);
        moments.push(Workload::moment_of(&mysqld));
        mysqld.sql(blob);
    }
    mysqld.sql("FLUSH BINARY LOGS");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = SeaweedFs::start();
    let proxy = runtime.block_on(Proxy::start(&store.address()));
    let workspace = archived(&mysqld, &store, &proxy);

    let early = &moments[0].executed;
    for (from, moment) in [
        ("", &moments[1]),
        (early, &moments[3]),
        (early, &moments[0]),
    ] {
        let saved = workspace
            .path()
            .join(format!("{}.json", proxy.heads().len()));
        let args = ["--from-gtid-set", from, "--to-position", &moment.position];
        let plan = planned(
            &workspace,
            &[&args[..], &["--save", saved.to_str().unwrap()]].concat(),
        );
        assert_eq!(plan["executed"], moment.executed.as_str());
        let files = plan["files"].as_array().unwrap();
        let sizes = files.iter().map(|file| {
            let key = file["key"].as_str().unwrap();
            (key.to_owned(), file["stored_bytes"].as_u64().unwrap())
        });
        let sizes: Vec<(String, u64)> = sizes.collect();
        runtime.block_on(proxy.quiet());
        proxy.forget();
        let cat = workspace
            .restore()
            .args(["cat", "--plan"])
            .arg(&saved)
            .output()
            .unwrap();
        assert_eq!(code(&cat), 0, "{}", stderr(&cat));
        let heads = proxy.heads();
        assert_eq!(plan["fetch_bytes"], asked_for(&heads, &sizes), "{plan:#}");
        // These files, and no other one's object.
        let opened = |key: &&(String, u64)| heads.iter().any(|head| head.contains(&key.0));
        assert_eq!(sizes.iter().filter(opened).count(), files.len(), "{plan:#}");
        let others = heads.iter().filter(|head| head.contains("/log/"));
        for head in others {
            assert!(
                sizes.iter().any(|(key, _)| head.contains(key.as_str())),
                "{head}"
            );
        }
    }
}

/// A server's archive in a real store, behind a proxy that sees what is asked for.
fn archived(mysqld: &Mysqld, store: &SeaweedFs, proxy: &Proxy) -> Workspace {
    let workspace = Workspace::empty();
    let url = format!("s3://{}/it", SeaweedFs::BUCKET);
    workspace.init(&mysqld.index(), &["--destination", &url]);
    workspace.edit(
        "#endpoint = \"https://s3.example.net\"",
        &format!("endpoint = \"{}\"", proxy.endpoint()),
    );
    workspace.edit(
        "#credentials = \"file:/etc/gtide/credentials\"",
        &format!(
            "credentials = \"file:{}\"",
            store.credentials_file().display()
        ),
    );
    archive(&workspace);
    workspace
}
