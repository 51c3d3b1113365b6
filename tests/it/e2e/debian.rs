//! A site of daemons as they are in Debian: nginx, redis and an application of Python.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use mini_supervisor::control::Reply;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::harness::{PATIENCE, Plan, full, is_root, program, skip};

const NGINX: &str = "daemon off; user www-data; worker_processes 2; pid DIR/nginx.pid;
error_log stderr; events {} http { access_log DIR/access.log; client_body_temp_path DIR/body;
proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/fastcgi; uwsgi_temp_path DIR/uwsgi;
scgi_temp_path DIR/scgi; server { listen 127.0.0.1:WEB; location / { proxy_pass http://127.0.0.1:APP; } } }";

/// Ports that nobody uses now.
fn ports() -> [u16; 3] {
    let taken: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    [0, 1, 2].map(|n: usize| taken[n].local_addr().unwrap().port())
}

/// What `port` answers to `request`, as soon as it begins with `wanted`.
fn answer(port: u16, request: &str, wanted: &str) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut text = Vec::new();
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            stream.write_all(request.as_bytes()).ok();
            stream.read_to_end(&mut text).ok();
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        if text.starts_with(wanted) {
            return text;
        }
        assert!(Instant::now() < end, "port {port} answers {text:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_site_of_debian_daemons() {
    let there =
        |name: &str| ["/usr/sbin", "/usr/bin"].iter().any(|dir| Path::new(dir).join(name).exists());
    if !full() || !is_root() {
        return skip("TESTS_FULL=1 and root are needed");
    }
    if !(there("nginx") && there("redis-server") && there("python3")) {
        return skip("nginx, redis-server or python3 is not installed");
    }
    let [web, app, redis] = ports();
    let nginx = NGINX.replace("WEB", &web.to_string()).replace("APP", &app.to_string());
    let programs = format!(
        "  redis: {{command: [/usr/bin/redis-server, --port, '{redis}', --bind, 127.0.0.1, --dir, DIR/data, --save, ''], user: nobody, restart: {{delay: 10ms}}, logging: {{stdout: DIR/redis.log, stderr: stdout}}}}
  app: {{command: [/usr/bin/python3, -m, http.server, '{app}', --bind, 127.0.0.1, --directory, DIR/www], user: nobody, requires: [redis], restart: {{delay: 10ms}}, environment: {{PYTHONUNBUFFERED: '1'}}, logging: {{stdout: DIR/app.log, stderr: stdout}}}}
  web: {{command: [/usr/sbin/nginx, -c, DIR/nginx.conf], user: root, requires: [app], stop: {{signal: QUIT}}, reload: {{signal: HUP}}, restart: {{delay: 10ms}}, hardening: {{no_new_privileges: false}}, logging: {{stdout: DIR/web.log, stderr: stdout}}}}"
    );
    let plan = Plan::new(&programs).file("nginx.conf", &nginx);
    for name in ["data", "www"] {
        std::fs::create_dir(plan.path(name)).unwrap();
        nix::unistd::chown(&plan.path(name), Some(65534.into()), None).unwrap();
    }
    let plan = plan.file("www/index.html", "it works");
    let mut site = plan.start();
    site.all_running();
    let works = || {
        let get = "GET / HTTP/1.0\r\nConnection: close\r\n\r\n";
        assert!(answer(web, get, "HTTP/1.1 200").ends_with("it works"));
        answer(redis, "PING\r\nQUIT\r\n", "+PONG");
    };
    works();
    for name in ["redis", "app", "web"] {
        let before = site.all_running();
        let old = program(&before, name).pid.unwrap();
        kill(Pid::from_raw(old.cast_signed()), Signal::SIGKILL).unwrap();
        let after = site.wait_for("it again", |s| {
            s.programs.iter().all(|one| one.ready) && program(s, name).pid != Some(old)
        });
        for other in ["redis", "app", "web"].iter().filter(|other| **other != name) {
            assert_eq!(program(&after, other).pid, program(&before, other).pid, "{name}");
        }
        works();
    }
    let before = site.all_running();
    assert!(matches!(site.reload("  redis: {comand: x}"), Reply::Error(_)));
    assert_eq!(
        site.all_running().programs.iter().map(|one| one.pid).collect::<Vec<_>>(),
        before.programs.iter().map(|one| one.pid).collect::<Vec<_>>()
    );
    let changed = programs.replace("PYTHONUNBUFFERED: '1'", "PYTHONUNBUFFERED: '2'");
    let Reply::Reloaded(difference) = site.reload(&changed) else { panic!("refused") };
    assert!(difference.restarted.iter().any(|(name, _)| name == "app"), "{difference:?}");
    let old = program(&before, "app").pid;
    let after = site.wait_for("a new app", |s| {
        s.programs.iter().all(|one| one.ready) && program(s, "app").pid != old
    });
    assert_eq!(program(&after, "redis").pid, program(&before, "redis").pid);
    works();
    assert!(std::fs::read_to_string(site.path("app.log")).unwrap().contains("GET /"));
    let stderr = site.stderr.clone();
    assert_eq!(site.end(), 0);
    let log = stderr.text();
    let at = |name: &str| log.rfind(&format!("{name}: stopped")).unwrap_or_else(|| panic!("{log}"));
    assert!(at("web") < at("app") && at("app") < at("redis"), "{log}");
}
