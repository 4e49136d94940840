"""Ways out of a container that were found in runtimes: each is tried here and must fail. Class by class as in the record of
runtime vulnerabilities: paths in a rootfs that the attacker owns, descriptors and programs, capabilities, cgroups, settings."""
import ctypes
import errno
import fcntl
import os
import re
import shutil
import stat
import subprocess
import threading

import pytest
from conftest import ROOT, RUNTIME

RENAME_EXCHANGE = 2
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def outside(bundle):
    """A folder of the host that must stay empty."""
    path = bundle.path / 'outside'
    path.mkdir(exist_ok=True)
    return path


# ---- paths ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', ['dev', 'proc', 'sys'])
@pytest.mark.parametrize('absolute', [True, False])
def test_a_system_folder_of_the_image_is_a_link(bundle, name, absolute):
    """CVE-2026-41579, CVE-2026-47766, CVE-2019-16884, CVE-2019-19921."""
    target = outside(bundle)
    os.rmdir(bundle.rootfs / name)
    (bundle.rootfs / name).symlink_to(target if absolute else os.path.relpath(target, bundle.rootfs))
    if name == 'dev':
        bundle.config['mounts'] = [mount for mount in bundle.config['mounts'] if not mount['destination'].startswith('/dev')]
    bundle.run()
    assert os.listdir(target) == []


@pytest.mark.parametrize('way', ['/link/made/up', '/link', '/var/../link/x', '/etc/../../../../../../link/y'])
def test_mount_points_are_made_inside(bundle, way):
    """CVE-2024-45310: empty folders on the host; CVE-2021-30465, CVE-2019-18837."""
    target = outside(bundle)
    (bundle.rootfs / 'link').symlink_to(target)
    bundle.mount(way, '/usr', options=['bind', 'ro'])
    bundle.run()
    assert os.listdir(target) == []
    assert not os.path.ismount(target)


def test_a_mount_point_exchanged_while_it_is_used(bundle):
    """CVE-2021-30465: a race of renames in a shared volume."""
    target, shared = outside(bundle), bundle.path / 'shared'
    (shared / 'a').mkdir(parents=True)
    (shared / 'b').symlink_to(target)
    libc, stop = ctypes.CDLL(None), threading.Event()

    def exchange():
        while not stop.is_set():
            libc.renameat2(-100, bytes(shared / 'a'), -100, bytes(shared / 'b'), RENAME_EXCHANGE)

    bundle.mount('/shared', shared, options=['bind'])
    for i in range(20):
        bundle.mount(f'/shared/a/{i}', '/usr', options=['bind'])
    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        for _ in range(15):
            bundle.args('true').run()
            bundle.remove()
            assert os.listdir(target) == []
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize('destination', ['/proc', '/proc/self/attr', '/proc/sys', '/var/../proc/sys/kernel'])
def test_nothing_is_mounted_over_proc(bundle, destination):
    """CVE-2019-16884, CVE-2019-19921, CVE-2023-28642: labels and settings written into a fake /proc."""
    fake = bundle.path / 'fake'
    fake.mkdir()
    bundle.mount(destination, fake, options=['bind'])
    done = bundle.run()
    assert done.returncode == 1 and 'proc' in done.stderr


def test_a_volume_at_a_link_to_proc(bundle):
    (bundle.rootfs / 'innocent').symlink_to('/proc')
    fake = bundle.path / 'fake'
    fake.mkdir()
    bundle.mount('/innocent', fake, options=['bind'])
    assert bundle.run().returncode == 1


def test_masks_are_made_of_the_real_null(bundle):
    """CVE-2025-31133: a link at /dev/null makes a mask a window."""
    os.rmdir(bundle.rootfs / 'dev')
    (bundle.rootfs / 'dev').mkdir()
    (bundle.rootfs / 'dev/null').symlink_to('/proc/sys/kernel/core_pattern')
    (bundle.rootfs / 'secret').write_text('secret')
    bundle.config['mounts'] = [mount for mount in bundle.config['mounts'] if not mount['destination'].startswith('/dev')]
    bundle.linux['maskedPaths'] = ['/secret']
    done = bundle.shell('cat /secret').run()
    assert done.returncode != 0 or done.stdout == ''


def test_the_console_is_no_link(bundle):
    """CVE-2025-52565."""
    target = outside(bundle) / 'console'
    (bundle.rootfs / 'dev/console').symlink_to(target)
    bundle.config['mounts'] = [mount for mount in bundle.config['mounts'] if mount['destination'] != '/dev']
    bundle.process['terminal'] = True
    bundle.args('true').save()
    command = f'{RUNTIME} --root {bundle.root} run -b {bundle.path}/bundle {bundle.id}'
    subprocess.run(['script', '-qec', command, '/dev/null'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=30)
    assert not target.exists()


def test_settings_are_written_to_the_real_proc(bundle):
    """CVE-2025-52881: a mount over /proc/sys redirects the write."""
    before = open('/proc/sys/kernel/core_pattern').read()
    bundle.linux['sysctl'] = {'net.ipv4.ip_forward': '1'}
    bundle.mount('/proc/sys/net', '/proc/sys/kernel', options=['bind'])
    bundle.run()
    assert open('/proc/sys/kernel/core_pattern').read() == before


@pytest.mark.parametrize('link, destination', [('file', '/file'), ('folder', '/folder/new')])
@pytest.mark.parametrize('there', [True, False])
def test_a_file_is_made_inside(bundle, link, destination, there):
    """CVE-2025-24965: a file that the runtime makes in the rootfs, here the place of a bound file."""
    target = outside(bundle) / 'target'
    if there:
        target.mkdir() if link == 'folder' else target.write_text('as before')
    (bundle.rootfs / link).symlink_to(target)
    bundle.mount(destination, '/etc/hostname', options=['bind'])
    bundle.run()
    if there and link == 'file':
        assert target.read_text() == 'as before'
    else:
        assert os.path.isdir(target) == there and (not there or os.listdir(target) == [])


def test_copy_up_keeps_links_as_links(bundle):
    """CVE-2024-9676 and its kind."""
    (bundle.path / 'secret').write_text('secret')
    (bundle.rootfs / 'data').mkdir()
    (bundle.rootfs / 'data/link').symlink_to(bundle.path / 'secret')
    bundle.mount('/data', 'tmpfs', 'tmpfs', ['tmpcopyup'])
    assert 'No such file' in bundle.output('test -L /data/link && cat /data/link 2>&1 || true')


def test_passwd_that_is_no_file(bundle):
    os.unlink(bundle.rootfs / 'etc/passwd')
    os.mkfifo(bundle.rootfs / 'etc/passwd')
    assert bundle.output('echo here') == 'here'
    os.unlink(bundle.rootfs / 'etc/passwd')
    (bundle.rootfs / 'etc/passwd').symlink_to('/etc/shadow')
    assert bundle.output('echo $HOME') in ('/', '/root')


# ---- descriptors, programs, processes -------------------------------------------------------------------------------

@pytest.mark.berth
def test_the_program_that_enters_is_not_the_file_on_disk(bundle):
    """CVE-2019-5736: #!/proc/self/exe opens the runtime itself; what is opened must not be writable."""
    (bundle.rootfs / 'again').write_text('#!/proc/self/exe\n')
    (bundle.rootfs / 'again').chmod(0o755)
    before = os.stat(RUNTIME)
    bundle.up()
    bundle.exec('/again')
    after = os.stat(RUNTIME)
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
    pid = bundle.state()['pid']
    assert not os.readlink(f'/proc/{pid}/exe').endswith('berth-oci')


@pytest.mark.berth
def test_the_program_can_not_be_overwritten_through_a_waiting_container(bundle):
    """CVE-2019-5736's way: keep what /proc/<pid>/exe leads to, wait until nobody runs it, open it for writing."""
    bundle.shell('sleep 1000').create()
    path = f'/proc/{bundle.state()["pid"]}/exe'
    held = os.open(path, os.O_PATH)
    try:
        bundle.call('delete', '--force', bundle.id)
        with pytest.raises(OSError) as failure:
            os.open(f'/proc/self/fd/{held}', os.O_WRONLY)
        assert failure.value.errno in (errno.EROFS, errno.EPERM)  # a read-only mount, or a sealed copy
    finally:
        os.close(held)


def by_descriptor(bundle):
    """A program that executes ours by descriptor, as ours does itself."""
    path = bundle.path / 'by-descriptor'
    path.write_text('#!/usr/bin/python3\nimport os, sys\n'
                    f'os.execve(os.open({RUNTIME!r}, os.O_RDONLY), [{RUNTIME!r}, *sys.argv[1:]], os.environ)\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.berth
@pytest.mark.parametrize('start', [None, by_descriptor], ids=['by its name', 'by descriptor'])
def test_the_way_to_the_program_is_read_only(bundle, start):
    """CVE-2022-0847 and its kind needed a file's pages first; what is asked here is less: that nothing leads to it for writing.
    Who was started by descriptor is not moved away before the C library starts, but after."""
    bundle.shell('sleep 1000').create(program=start and start(bundle))
    with open(f'/proc/{bundle.state()["pid"]}/exe', 'rb') as program:
        if os.fstat(program.fileno()).st_dev == os.stat(RUNTIME).st_dev:
            assert os.fstatvfs(program.fileno()).f_flag & os.ST_RDONLY
        else:
            assert fcntl.fcntl(program, fcntl.F_GET_SEALS) & SEALS == SEALS


@pytest.mark.berth
@pytest.mark.skipif(not shutil.which('strace') or os.uname().machine != 'x86_64', reason='needs strace, on x86-64')
def test_the_program_moves_away_before_its_c_library_starts(bundle):
    log = bundle.path / 'strace'
    subprocess.run(['strace', '-o', str(log), RUNTIME, '--root', str(bundle.root), 'exec', 'none', 'true'], capture_output=True)
    calls = [line.split('(')[0] for line in log.read_text().splitlines()]
    assert calls[:4] == ['execve', 'open_tree', 'mount_setattr', 'execveat']
    assert 'execveat' not in calls[4:]


@pytest.mark.parametrize('count', [341, 3000, 5000])
def test_maps_that_are_too_many(bundle, count):
    """CVE-2021-43784: a message whose length no longer fitted its field was read as another one."""
    bundle.namespace('user')
    for kind in ('uidMappings', 'gidMappings'):
        bundle.linux[kind] = [{'containerID': i, 'hostID': 100000 + i, 'size': 1} for i in range(count)]
    done = bundle.shell('cat /proc/self/uid_map').run()
    assert done.returncode == 1 and done.stdout == '' and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize('user', ['4294967295', '4294967296', '-1', '+0', ' 0', '0x0', '0 ', '1000:4294967295', '1000:', ':0', '1e3', 'root'])
def test_exec_as_a_number_that_is_none(bundle, user):
    """CVE-2026-30892: what was misread became root."""
    bundle.up()
    done = bundle.exec('id', '-u', flags=['--user', user])
    assert done.returncode != 0 and done.stdout == ''


@pytest.mark.parametrize('cwd', [f'/proc/self/fd/{number}' for number in range(3, 12)])
def test_no_working_directory_of_the_host(bundle, cwd):
    """CVE-2024-21626."""
    bundle.process['cwd'] = cwd
    done = bundle.shell('ls; cat ../../../etc/hostname 2>/dev/null').run()
    assert done.returncode == 1 and done.stdout == ''


@pytest.mark.parametrize('number', range(3, 10))
def test_exec_has_no_descriptor_of_the_host(bundle, number):
    bundle.up()
    done = bundle.exec('ls', flags=['--cwd', f'/proc/self/fd/{number}'])
    assert done.returncode == 255 and done.stdout == ''


def test_the_joining_process_can_not_be_traced(bundle):
    """CVE-2016-9962: it is in the container's pid namespace before it has dropped its rights."""
    bundle.all_capabilities()
    bundle.process['noNewPrivileges'] = False
    bundle.up('while :; do for p in /proc/[0-9]*; do readlink $p/fd/* 2>/dev/null; done; done >/tmp/seen 2>&1')
    for _ in range(20):
        bundle.exec('true')
    seen = set((bundle.rootfs / 'tmp/seen').read_text().split())
    assert not [path for path in seen if str(bundle.path) in path or path.startswith('/sys/fs/cgroup') or 'memfd' in path]


@pytest.mark.berth
@pytest.mark.parametrize('kind', ['prestart', 'createRuntime', 'createContainer', 'poststop'])
def test_hooks_have_no_variable_of_the_image(bundle, kind):
    """CVE-2025-23266: LD_PRELOAD from the image in the environment of a hook. Hooks in the container have no variable at all, the others
    the caller's, as with runc."""
    log = bundle.path / 'log'
    bundle.process['env'].append('LD_PRELOAD=/evil.so')
    bundle.config['hooks'] = {kind: [{'path': '/bin/sh', 'args': ['sh', '-c', f'/usr/bin/env >{log}']}]}
    bundle.args('true').run(env={**os.environ, 'SECRET': 'of-the-caller'})
    names = {line.split('=')[0] for line in log.read_text().splitlines()}
    shell = {'PWD', 'SHLVL', '_', 'OLDPWD'}
    if kind in ('createContainer', 'startContainer'):
        assert names <= shell
    else:
        assert 'SECRET' in names and names <= shell | {'SECRET'} | set(os.environ)
    assert 'LD_PRELOAD' not in names - set(os.environ)


# ---- capabilities, cgroups, settings --------------------------------------------------------------------------------

def test_no_inheritable_capabilities(bundle):
    """CVE-2022-29162, CVE-2022-27650."""
    bundle.all_capabilities()
    out = bundle.output('grep -E "CapInh|CapAmb" /proc/self/status').split()
    assert out == ['CapInh:', '0' * 16, 'CapAmb:', '0' * 16]


def test_cgroups_are_read_only(bundle):
    """CVE-2022-0492: release_agent."""
    bundle.all_capabilities().namespace('cgroup')
    out = bundle.output('for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do '
                        'test -e $f && (echo 1 >$f) 2>&1; done; echo end')
    assert all('Read-only' in line for line in out.splitlines()[:-1])


def test_cgroups_of_the_host_are_read_only(bundle):
    """CVE-2023-25809: without a cgroup namespace the hierarchies that are seen are the host's."""
    bundle.all_capabilities().without_namespace('cgroup')
    out = bundle.output('for f in $(ls -d /sys/fs/cgroup /sys/fs/cgroup/*); do mkdir $f/escape 2>&1 && rmdir $f/escape && echo made in $f; '
                        '(echo 1 >$f/cgroup.procs) 2>/dev/null && echo written $f; done; echo end')
    assert 'made' not in out and 'written' not in out and 'Read-only file system' in out and out.endswith('end')


@pytest.mark.berth
@pytest.mark.parametrize('path', ['../escape', '/a/../../escape', '/..', '/'])
def test_a_cgroup_path_stays_in_its_tree(bundle, path):
    bundle.linux['cgroupsPath'] = path
    done = bundle.run()
    assert done.returncode == 1 and 'cgroupsPath' in done.stderr


@pytest.mark.parametrize('late', [False, True])
def test_without_pivot_nothing_unmasked_lies_below(bundle, late):
    """The kernel lets who has a user namespace of his own mount a procfs only where a whole one is to be seen already."""
    if late:
        bundle.hook('createContainer', 'true')
    (bundle.rootfs / 'tmp/p').mkdir()
    bundle.process['user'] = {'uid': 1000, 'gid': 1000}
    bundle.args('sh', '-c', 'busybox unshare -r -m -p -f sh -c "id -u && mount -t proc none /tmp/p"; ls -d /proc/1/root/tmp/p; cd ../../..; pwd')
    done = bundle.run('--no-pivot')
    assert done.stdout.split() == ['0', '/proc/1/root/tmp/p', '/'] and 'permission denied' in done.stderr, done
    bundle.process['user'] = {'uid': 0, 'gid': 0}
    bundle.shell('sleep 1000').save()
    assert bundle.create('--no-pivot').returncode == 0
    assert bundle.exec('ls', '/proc/1/root/tmp', '/').stdout.split()[-1] == 'var'


@pytest.mark.parametrize('key', ['kernel.core_pattern', 'kernel/core_pattern', 'net.ipv4.../../../kernel/core_pattern',
                                 'net/../kernel/core_pattern', 'net.ipv4.ip_forward+kernel.core_pattern', 'net.'])
def test_settings_of_the_host(bundle, key):
    """CVE-2022-0811 and its kind."""
    before = open('/proc/sys/kernel/core_pattern').read()
    bundle.linux['sysctl'] = {key: '|/evil'}
    assert bundle.run().returncode == 1
    assert open('/proc/sys/kernel/core_pattern').read() == before


@pytest.mark.berth
def test_a_value_has_one_line(bundle):
    bundle.linux['sysctl'] = {'net.ipv4.ip_forward': '1\n0'}
    assert bundle.run().returncode == 1


def test_the_state_is_roots_alone(bundle):
    bundle.up()
    mode = stat.S_IMODE(os.stat(bundle.root).st_mode)
    assert mode & 0o077 == 0 or stat.S_IMODE(os.stat(bundle.root / bundle.id).st_mode) & 0o066 == 0


def test_a_dead_pid_is_not_signalled(bundle):
    """The pid in the state may be another process's by now; its start time tells."""
    bundle.shell('true').create()
    bundle.call('start', bundle.id)
    bundle.wait('stopped')
    assert bundle.call('kill', bundle.id, 'KILL').returncode == 1


# ---- the list of them -----------------------------------------------------------------------------------------------

@pytest.mark.berth
def test_the_list_names_tests_that_are_there():
    """docs/isolation.md says of each way out which test tries it, and leaves out none that a test names."""
    page = open(os.path.join(ROOT, 'docs/isolation.md')).read()
    places = {'oci': 'tests/oci/test_escape.py', 'e2e': 'tests/e2e/test_escape.py'}
    sources, place, named = {}, None, 0
    for word in re.findall(r'\boci(?= `test_)|\be2e(?= `test_)|`tests/[\w/.]+`(?= `test_)|`test_\w+`', page):
        if word.startswith('`test_'):
            assert f'{word[1:-1]}(' in sources[place], word
            named += 1
            continue
        place = places.get(word, word.strip('`'))
        sources[place] = open(os.path.join(ROOT, place)).read()
    assert named > 30
    assert set(re.findall(r'CVE-\d+-\d+', ''.join(sources.values()))) <= set(re.findall(r'CVE-\d+-\d+', page))
