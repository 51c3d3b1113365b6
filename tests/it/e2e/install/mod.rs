//! `install` and `uninstall` in a Debian of their own, and their dry run anywhere.

mod debian;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use expect_test::expect;

use self::debian::{booted, chroot, possible};
use super::harness::{Plan, is_root, skip};

const SITE: &str = "version: 1
supervisor: {name: shop, control: {mode: '0666', access: [{allow: {users: [shop]}, actions: [status]}]}}
users:
  shop: {system: true, home: /srv/deep/shop, groups: [audio, video]}
  clerk: {shell: /bin/sh, groups: [shop]}
directories:
  /srv/deep/shop/uploads: {owner: shop, mode: '0775'}
  /srv/conf: {group: shop, mode: '0750', files: '0640'}
  /srv/old: {optional: true}
  /run/shop: {owner: shop}
programs:
  web: {command: [sleep, '1000'], user: shop}
";

/// Beginning of every script: what the tests call, and a host that is not quite new.
const BEGIN: &str = "
shop() { supervisor -c /etc/mini-supervisor/shop.yaml \"$@\"; echo \"-> $?\"; }
mkdir /srv/conf; touch /srv/conf/a; chmod 600 /srv/conf/a; ln -s /etc/passwd /srv/conf/link
";

/// systemd as far as `install` sees it: a command that notes what it is asked.
const MADE_UP: &str = "
mkdir -p /run/systemd/system
cat >/usr/local/bin/systemctl <<'X'
#!/bin/sh
[ \"$1\" = show ] && { cat /state 2>/dev/null; exit 0; }
echo \"systemctl $*\" >> /asked
[ \"$1\" = \"$(cat /broken 2>/dev/null)\" ] && { echo 'Bus is broken' >&2; exit 1; }
exit 0
X
chmod +x /usr/local/bin/systemctl
";

#[test]
fn a_dry_run_shows_the_steps_to_anybody_and_changes_nothing() {
    if Path::new("/run/systemd/system").exists() {
        return skip("systemd runs here: the steps are others");
    }
    let site = "version: 1
supervisor: {name: ms-dry-run, runtime_dir: DIR/run, state_dir: DIR/state}
users: {ms-nobody-here: {system: true}}
directories: {DIR/new/deep: {owner: ms-nobody-here, mode: '0750'}, DIR/not: {optional: true}}
programs: {web: {command: web, user: self}}
";
    let mut plan = Plan::whole(site).arg("install").arg("--dry-run");
    if is_root() {
        plan = plan.run_as(65534, 65534);
    }
    let dir = plan.dir.path().to_str().unwrap().to_owned();
    let binary = if is_root() { format!("{dir}/supervisor") } else { crate_binary() };
    let mut ran = plan.spawn();
    let code = ran.code();
    let text = ran.stdout.text().replace(&binary, "BINARY").replace(&dir, "DIR");
    assert_eq!((code, ran.stderr.text()), (0, String::new()), "{text}");
    let (steps, unit) = text.split_once("\nthe unit:\n").unwrap();
    expect![[r#"
        [1/8] users: make user ms-nobody-here (system): to be done
        [2/8] permissions: skipped: no directory is there yet
        [3/8] directories: make DIR/new/deep (ms-nobody-here 0750): to be done
        [3/8] directories: DIR/not: skipped: not there, and declared as optional
        [3/8] directories: make DIR/run (root 0755): to be done
        [3/8] directories: make DIR/state (root 0755): to be done
        [3/8] directories: make /var/log/mini-supervisor/ms-dry-run (root 0755): to be done
        [4/8] unit: skipped: systemd does not run here
        [5/8] privileges: skipped: nothing for sudo: supervisor.control.access would let others than root do something
        [6/8] tmpfiles: skipped: systemd does not run here
        [7/8] reload: skipped: systemd does not run here
        [8/8] enable: skipped: systemd does not run here
    "#]].assert_eq(steps);
    let start = "ExecStart=BINARY --daemon --pid-file DIR/run/supervisor.pid -c DIR/site.yaml\n";
    assert!(unit.contains(start), "{unit}");
    assert!(!Path::new(&dir).join("new").exists());
}

fn crate_binary() -> String {
    env!("CARGO_BIN_EXE_supervisor").to_owned()
}

#[test]
fn who_is_not_root_and_what_is_no_file_are_refused_with_a_hint() {
    if !is_root() {
        return skip("root is needed to be somebody else");
    }
    let site = "version: 1\nprograms: {}\n";
    let (code, out, err) = Plan::whole(site).arg("install").run_as(65534, 65534).run();
    assert_eq!((code, &*out), (4, ""), "{err}");
    assert!(
        err.starts_with("supervisor: cannot install site: only root may\nhint: use sudo"),
        "{err}"
    );
    let (code, _, err) = Plan::whole(site).arg("uninstall").run_as(65534, 65534).run();
    assert_eq!(code, 4, "{err}");
    let piped = Command::new(crate_binary()).args(["-c", "-", "install"]).output().unwrap();
    let err = String::from_utf8_lossy(&piped.stderr);
    assert_eq!(piped.status.code(), Some(2), "{err}");
    assert!(err.contains("a site from standard input is not there at the next start"), "{err}");
}

#[test]
fn an_invalid_site_and_one_for_a_later_version_are_not_installed() {
    if !is_root() {
        return skip("root is needed");
    }
    let (code, out, err) = Plan::whole("version: 1\nusers: {a b: {}}\n").arg("install").run();
    assert_eq!((code, &*out), (78, ""), "{err}");
    assert!(err.contains("`a b` is no name of a user"), "{err}");
    let later = "version: 1\nprograms: {}\nmounts: {x: {what: a, where: /x, type: b}}\n";
    let (code, out, err) = Plan::whole(later).arg("install").run();
    assert_eq!((code, &*out), (78, ""), "{err}");
    assert!(err.contains("note: mounts is valid but"), "{err}");
    let unset = "version: 1\nprograms: {web: {command: \"${E2E_MARK}\", user: root}}\n";
    let (code, _, err) = Plan::whole(unset).arg("install").run();
    assert_eq!(code, 78, "a variable of this shell is not there at boot: {err}");
}

#[test]
fn directories_that_are_to_be_there_at_start_are_made_before_the_programs() {
    let site = "version: 1
supervisor: {runtime_dir: DIR/run}
directories:
  DIR/spool/in: {mode: '0750', at_start: true}
  DIR/none: {optional: true, at_start: true}
  DIR/later: {}
programs: {web: {command: [sh, -c, 'cd DIR/spool/in && exec sleep 1000'], user: self}}
";
    let mut site = Plan::whole(site).start();
    site.all_running();
    let mode = fs::metadata(site.path("spool/in")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o750);
    assert!(!site.path("none").exists() && !site.path("later").exists());
    assert_eq!(site.end(), 0);
    let blocked = "version: 1
supervisor: {runtime_dir: DIR/run}
directories: {DIR/spool: {at_start: true}}
programs: {web: {command: [sleep, '1000'], user: self}}
";
    let (code, _, err) = Plan::whole(blocked).file("spool", "").run();
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("cannot make directory") || err.contains("cannot look at"), "{err}");
    assert!(err.contains("/spool: it is no directory"), "{err}");
}

#[test]
fn users_directories_and_the_unit_are_made_once_and_then_left_alone() {
    if !possible(&["unshare", "setpriv", "chroot"]) {
        return;
    }
    let script = format!(
        "{BEGIN}{MADE_UP}
shop install
id -nG shop; id -nG clerk; getent passwd shop clerk | cut -d: -f1,6,7
stat -c '%n %U:%G %a' /srv/deep /srv/deep/shop /srv/deep/shop/uploads /srv/conf /srv/conf/a \
  /etc/passwd /run/shop /var/lib/mini-supervisor/shop /etc/systemd/system/mini-supervisor-shop.service
cat /etc/tmpfiles.d/mini-supervisor-shop.conf; cat /asked; ls /srv/old
echo UnitFileState=enabled > /state; rm /asked
find /etc /srv /run /var /home -printf '%p %T@ %C@\\n' | sort > /before
shop install
find /etc /srv /run /var /home -printf '%p %T@ %C@\\n' | sort > /after
diff /before /after && wc -l </before | grep -q ... && echo untouched; cat /asked || true
"
    );
    let ran = chroot(SITE, &script);
    assert_eq!(ran.code, 0, "{}", ran.text);
    expect![[r#"
        [1/8] users: make user clerk (shell /bin/sh): done
        [1/8] users: make user shop (system, home /srv/deep/shop): done
        [1/8] users: add clerk to shop: done
        [1/8] users: add shop to audio, video: done
        [2/8] permissions: /srv/conf (root:shop 0750): done
        [2/8] permissions: 1 file in /srv/conf (0640): done
        [3/8] directories: make /run/shop (shop 0755): done
        [3/8] directories: make /srv/deep/shop/uploads (shop 0775): done
        [3/8] directories: /srv/old: skipped: not there, and declared as optional
        [3/8] directories: make /var/lib/mini-supervisor/shop (root 0755): done
        [3/8] directories: make /var/log/mini-supervisor/shop (root 0755): done
        [4/8] unit: write /etc/systemd/system/mini-supervisor-shop.service: done
        [5/8] privileges: skipped: nothing for sudo: supervisor.control.access says who may do what (1)
        [6/8] tmpfiles: write /etc/tmpfiles.d/mini-supervisor-shop.conf: done
        [7/8] reload: systemctl daemon-reload: done
        [8/8] enable: systemctl enable mini-supervisor-shop.service: done
        start again:
            systemctl restart mini-supervisor-shop.service
        logs:
            supervisor -c /etc/mini-supervisor/shop.yaml logs -f
            its own:  journalctl -u mini-supervisor-shop.service -f
        status:
            supervisor -c /etc/mini-supervisor/shop.yaml status
        -> 0
        shop audio video
        clerk shop
        shop:/srv/deep/shop:/usr/sbin/nologin
        clerk:/home/clerk:/bin/sh
        /srv/deep root:root 755
        /srv/deep/shop shop:shop 755
        /srv/deep/shop/uploads shop:shop 775
        /srv/conf root:shop 750
        /srv/conf/a root:root 640
        /etc/passwd root:root 644
        /run/shop shop:shop 755
        /var/lib/mini-supervisor/shop root:root 755
        /etc/systemd/system/mini-supervisor-shop.service root:root 644
        # Written by "supervisor install" for the site /etc/mini-supervisor/shop.yaml
        d /run/shop 0755 shop shop -
        systemctl daemon-reload
        systemctl enable -- mini-supervisor-shop.service
        ls: cannot access '/srv/old': No such file or directory
        [1/8] users: user clerk: already there
        [1/8] users: user shop: already there
        [1/8] users: clerk in shop: already there
        [1/8] users: shop in audio, video: already there
        [2/8] permissions: /run/shop (shop 0755): already so
        [2/8] permissions: /srv/conf (root:shop 0750): already so
        [2/8] permissions: /srv/deep/shop/uploads (shop 0775): already so
        [2/8] permissions: /var/lib/mini-supervisor/shop (root 0755): already so
        [2/8] permissions: /var/log/mini-supervisor/shop (root 0755): already so
        [3/8] directories: /srv/old: skipped: not there, and declared as optional
        [4/8] unit: /etc/systemd/system/mini-supervisor-shop.service: already there
        [5/8] privileges: skipped: nothing for sudo: supervisor.control.access says who may do what (1)
        [6/8] tmpfiles: /etc/tmpfiles.d/mini-supervisor-shop.conf: already there
        [7/8] reload: systemctl daemon-reload: not needed
        [8/8] enable: systemctl enable mini-supervisor-shop.service: already so
        nothing has changed
        start again:
            systemctl restart mini-supervisor-shop.service
        logs:
            supervisor -c /etc/mini-supervisor/shop.yaml logs -f
            its own:  journalctl -u mini-supervisor-shop.service -f
        status:
            supervisor -c /etc/mini-supervisor/shop.yaml status
        -> 0
        untouched
        cat: /asked: No such file or directory
    "#]].assert_eq(&ran.text);
}

#[test]
fn whatever_step_fails_is_named_and_the_next_run_goes_on_from_there() {
    if !possible(&["unshare", "setpriv", "chroot"]) {
        return;
    }
    let script = format!(
        "{BEGIN}{MADE_UP}
shop() {{ supervisor -c /etc/mini-supervisor/shop.yaml \"$@\" | grep -E 'failed|make user'; }}
mount --bind /bin/false /usr/sbin/useradd
shop install
umount /usr/sbin/useradd
groupmod -n music audio; shop install; groupmod -n audio music
mount -t tmpfs -o ro tmpfs /etc/systemd/system
shop install
umount /etc/systemd/system
echo daemon-reload > /broken; shop install; rm /broken; ls /etc/systemd/system/mini-*
echo NeedDaemonReload=yes > /state; shop install; cat /asked
"
    );
    let ran = chroot(SITE, &script);
    expect![[r#"
        supervisor: cannot install shop: step 1 of 8 (users): make user clerk (shell /bin/sh): useradd: exit 1
        hint: nothing was changed before
        hint: not done: permissions, directories, unit, privileges, tmpfiles, reload, enable
        hint: when that is mended, run it again: what is done already is not done a second time
        [1/8] users: make user clerk (shell /bin/sh): failed: useradd: exit 1
        supervisor: cannot install shop: step 1 of 8 (users): add shop to audio: there is no group audio
        hint: groupadd --system audio, or remove it from users.shop.groups
        hint: nothing was changed
        [1/8] users: make user clerk (shell /bin/sh): to be done
        [1/8] users: make user shop (system, home /srv/deep/shop): to be done
        [1/8] users: add shop to audio: failed: there is no group audio
        supervisor: cannot install shop: step 4 of 8 (unit): write /etc/systemd/system/mini-supervisor-shop.service: Read-only file system (os error 30)
        hint: done before: make user clerk (shell /bin/sh); make user shop (system, home /srv/deep/shop); add clerk to shop; add shop to audio, video; /srv/conf (root:shop 0750); 1 file in /srv/conf (0640); make /run/shop (shop 0755); make /srv/deep/shop/uploads (shop 0775); make /var/lib/mini-supervisor/shop (root 0755); make /var/log/mini-supervisor/shop (root 0755)
        hint: not done: privileges, tmpfiles, reload, enable
        hint: when that is mended, run it again: what is done already is not done a second time
        [1/8] users: make user clerk (shell /bin/sh): done
        [1/8] users: make user shop (system, home /srv/deep/shop): done
        [4/8] unit: write /etc/systemd/system/mini-supervisor-shop.service: failed: Read-only file system (os error 30)
        supervisor: cannot install shop: step 7 of 8 (reload): systemctl daemon-reload: exit 1: Bus is broken
        hint: done before: write /etc/systemd/system/mini-supervisor-shop.service; write /etc/tmpfiles.d/mini-supervisor-shop.conf
        hint: not done: enable
        hint: when that is mended, run it again: what is done already is not done a second time
        [7/8] reload: systemctl daemon-reload: failed: exit 1: Bus is broken
        /etc/systemd/system/mini-supervisor-shop.service
        systemctl daemon-reload
        systemctl daemon-reload
        systemctl enable -- mini-supervisor-shop.service
    "#]].assert_eq(&ran.text);
}

#[test]
fn what_belongs_to_others_is_neither_given_away_nor_followed_nor_removed() {
    if !possible(&["unshare", "setpriv", "chroot"]) {
        return;
    }
    let script = format!(
        "{BEGIN}{MADE_UP}
shop() {{ supervisor -c /etc/mini-supervisor/shop.yaml \"$@\" | grep failed; }}
useradd --create-home stranger
unit=/etc/systemd/system/mini-supervisor-shop.service
echo '[Unit]' > $unit; shop install; shop uninstall; cat $unit; rm $unit
ln -s /dev/null $unit; shop install; shop uninstall; rm $unit
mkdir -p /srv/deep/shop/uploads; chown stranger /srv/deep/shop/uploads; shop install
rmdir /srv/deep/shop/uploads; ln -s /etc /srv/deep/shop/uploads; shop install
rm /srv/deep/shop/uploads; rmdir /srv/deep/shop; chown stranger /srv/deep
ln -s /etc /srv/deep/shop; shop install; stat -c '%n %U' /etc; ls -d /etc/uploads
id shop
"
    );
    let ran = chroot(SITE, &script);
    expect![[r#"
        supervisor: cannot install shop: step 4 of 8 (unit): write /etc/systemd/system/mini-supervisor-shop.service: it was not written by supervisor install
        hint: look at /etc/systemd/system/mini-supervisor-shop.service, and move it away if nobody needs it
        hint: nothing was changed
        [4/8] unit: write /etc/systemd/system/mini-supervisor-shop.service: failed: it was not written by supervisor install
        supervisor: cannot uninstall shop: step 3 of 6 (unit): remove /etc/systemd/system/mini-supervisor-shop.service: it was not written by supervisor install
        hint: if nobody needs it, rm /etc/systemd/system/mini-supervisor-shop.service
        hint: nothing was changed
        [3/6] unit: remove /etc/systemd/system/mini-supervisor-shop.service: failed: it was not written by supervisor install
        [Unit]
        supervisor: cannot install shop: step 4 of 8 (unit): write /etc/systemd/system/mini-supervisor-shop.service: it is a link to /dev/null
        hint: look at /etc/systemd/system/mini-supervisor-shop.service, and move it away if nobody needs it
        hint: nothing was changed
        [4/8] unit: write /etc/systemd/system/mini-supervisor-shop.service: failed: it is a link to /dev/null
        supervisor: cannot uninstall shop: step 3 of 6 (unit): remove /etc/systemd/system/mini-supervisor-shop.service: it is a link to /dev/null
        hint: look at /etc/systemd/system/mini-supervisor-shop.service: it is not ours
        hint: nothing was changed
        [3/6] unit: remove /etc/systemd/system/mini-supervisor-shop.service: failed: it is a link to /dev/null
        supervisor: cannot install shop: step 2 of 8 (permissions): /srv/deep/shop/uploads (shop 0775): it belongs to uid 1000, whom the site does not declare
        hint: declare its owner, or chown 1000 /srv/deep/shop/uploads
        hint: nothing was changed
        [2/8] permissions: /srv/deep/shop/uploads (shop 0775): failed: it belongs to uid 1000, whom the site does not declare
        supervisor: cannot install shop: step 2 of 8 (permissions): /srv/deep/shop/uploads: it is no directory
        hint: what stands in the way is not removed by us
        hint: nothing was changed
        [2/8] permissions: /srv/deep/shop/uploads: failed: it is no directory
        supervisor: cannot install shop: step 2 of 8 (permissions): /srv/deep/shop/uploads: others than root can change a link on the way to it
        hint: what stands in the way is not removed by us
        hint: nothing was changed
        [2/8] permissions: /srv/deep/shop/uploads: failed: others than root can change a link on the way to it
        /etc root
        ls: cannot access '/etc/uploads': No such file or directory
        id: 'shop': no such user
    "#]].assert_eq(&ran.text);
}

#[test]
fn without_systemd_a_site_is_installed_started_by_hand_and_stopped_by_uninstall() {
    if !possible(&["unshare", "setpriv", "chroot"]) {
        return;
    }
    let script = format!(
        "{BEGIN}
shop install | grep -v -e users -e directories: -e permissions
supervisor -d -c /etc/mini-supervisor/shop.yaml; echo \"-> $?\"
shop start web | grep -o 'web *RUNNING'
shop uninstall; shop status >/dev/null; shop uninstall | tail -n 1; id -un shop; ls -d /srv/conf
"
    );
    let ran = chroot(SITE, &script);
    expect![[r#"
        [4/8] unit: skipped: systemd does not run here
        [5/8] privileges: skipped: nothing for sudo: supervisor.control.access says who may do what (1)
        [6/8] tmpfiles: skipped: systemd does not run here
        [7/8] reload: skipped: systemd does not run here
        [8/8] enable: skipped: systemd does not run here
        systemd does not run here: let the init of this host, or the entrypoint of the container, start it.
        start:
            supervisor -d -c /etc/mini-supervisor/shop.yaml
        logs:
            supervisor -c /etc/mini-supervisor/shop.yaml logs -f
        status:
            supervisor -c /etc/mini-supervisor/shop.yaml status
        -> 0
        -> 0
        web                  RUNNING
        [1/6] stop: stop the supervisor of the site: done
        [2/6] disable: it is not enabled
        [3/6] unit: /etc/systemd/system/mini-supervisor-shop.service: not there
        [4/6] privileges: skipped: nothing for sudo was written
        [5/6] tmpfiles: /etc/tmpfiles.d/mini-supervisor-shop.conf: not there
        [6/6] reload: skipped: systemd does not run here
        kept:
            /etc/mini-supervisor/shop.yaml
            user clerk
            user shop
            /run/shop
            /srv/conf
            /srv/deep/shop/uploads
            /var/lib/mini-supervisor/shop
            /var/log/mini-supervisor/shop
        -> 0
        supervisor: no supervisor is running for this site
        hint: start it with: supervisor -c /etc/mini-supervisor/shop.yaml
        -> 0
        shop
        /srv/conf
    "#]].assert_eq(&ran.text);
}

#[test]
fn under_systemd_a_site_is_installed_started_at_boot_and_uninstalled() {
    if !possible(&["unshare", "setpriv", "systemd-nspawn", "nsenter"]) {
        return;
    }
    let script = "
unit=mini-supervisor-shop.service
shop() { supervisor -c /etc/mini-supervisor/shop.yaml \"$@\"; echo \"-> $?\"; }
if [ $1 = first ]; then
  shop install --now | grep -e '^.[5-8]/' -e '->'
  shop start web | grep -o 'web *RUNNING'
  touch /again
  exit
fi
systemctl is-enabled $unit; systemctl is-active $unit
systemctl show -p Type,NRestarts,OOMPolicy,KillMode $unit
systemd-analyze verify --man=no $unit && echo verified
[ \"$(systemctl show --value -p MainPID $unit)\" = \"$(cat /run/mini-supervisor/shop/supervisor.pid)\" ] && echo same pid
shop start web | grep -o 'web *RUNNING'
setpriv --reuid shop --regid shop --clear-groups supervisor -s /run/mini-supervisor/shop/control.sock status | grep -o 'web *RUNNING'
stat -c '%n %U' /run/shop
shop install --now | grep -v -e already -e skipped -e 'not needed' -e '^ ' -e ':$'
systemctl reload $unit; systemctl restart $unit; systemctl is-active $unit
shop install --dry-run | head -n 1
shop uninstall
systemctl show -p LoadState,ActiveState $unit; systemctl is-enabled $unit
ls /etc/tmpfiles.d/mini* /run/mini-supervisor/shop /etc/systemd/system/*.wants/$unit
shop uninstall | grep -v -e '^ '
id -un shop; ls -d /srv/deep/shop/uploads
";
    let ran = booted(SITE, script);
    expect![[r#"
        [5/8] privileges: skipped: nothing for sudo: supervisor.control.access says who may do what (1)
        [6/8] tmpfiles: write /etc/tmpfiles.d/mini-supervisor-shop.conf: done
        [7/8] reload: systemctl daemon-reload: done
        [8/8] enable: systemctl enable mini-supervisor-shop.service: done
        [8/8] enable: systemctl start mini-supervisor-shop.service: done
        -> 0
        web                  RUNNING
        enabled
        active
        Type=forking
        NRestarts=0
        OOMPolicy=continue
        KillMode=mixed
        verified
        same pid
        web                  RUNNING
        web                  RUNNING
        /run/shop shop
        nothing has changed
        -> 0
        active
        [1/8] users: user clerk: already there
        [1/6] stop: systemctl stop mini-supervisor-shop.service: done
        [2/6] disable: systemctl disable mini-supervisor-shop.service: done
        [3/6] unit: remove /etc/systemd/system/mini-supervisor-shop.service: done
        [4/6] privileges: skipped: nothing for sudo was written
        [5/6] tmpfiles: remove /etc/tmpfiles.d/mini-supervisor-shop.conf: done
        [6/6] reload: systemctl daemon-reload: done
        kept:
            /etc/mini-supervisor/shop.yaml
            user clerk
            user shop
            /run/shop
            /srv/conf
            /srv/deep/shop/uploads
            /var/lib/mini-supervisor/shop
            /var/log/mini-supervisor/shop
        -> 0
        LoadState=not-found
        ActiveState=inactive
        Failed to get unit file state for mini-supervisor-shop.service: No such file or directory
        ls: cannot access '/etc/tmpfiles.d/mini*': No such file or directory
        ls: cannot access '/run/mini-supervisor/shop': No such file or directory
        ls: cannot access '/etc/systemd/system/*.wants/mini-supervisor-shop.service': No such file or directory
        [1/6] stop: it does not run
        [2/6] disable: it is not enabled
        [3/6] unit: /etc/systemd/system/mini-supervisor-shop.service: not there
        [4/6] privileges: skipped: nothing for sudo was written
        [5/6] tmpfiles: /etc/tmpfiles.d/mini-supervisor-shop.conf: not there
        [6/6] reload: systemctl daemon-reload: not needed
        nothing has changed
        kept:
        -> 0
        shop
        /srv/deep/shop/uploads
    "#]].assert_eq(&ran.text);
}
