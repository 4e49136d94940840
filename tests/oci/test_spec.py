"""What a config.json may ask for, seen from inside the container."""
import json
import os
import subprocess
import time

import pytest


def test_hostname_and_domainname(bundle):
    bundle.config['hostname'] = 'somewhere'
    assert bundle.output('hostname') == 'somewhere'


@pytest.mark.berth
def test_domainname(bundle):
    bundle.config['domainname'] = 'example.org'
    assert bundle.output('cat /proc/sys/kernel/domainname') == 'example.org'


def test_user_groups_and_umask(bundle):
    bundle.process['user'] = {'uid': 1000, 'gid': 1000, 'umask': 0o27, 'additionalGids': [5, 77]}
    assert bundle.output('umask; grep -E "^(Uid|Gid|Groups)" /proc/self/status').split() == (
        '0027 Uid: 1000 1000 1000 1000 Gid: 1000 1000 1000 1000 Groups: 5 77'.split())


def test_capabilities(bundle):
    bundle.process['capabilities'] = {'bounding': ['CAP_CHOWN', 'CAP_KILL'], 'effective': ['CAP_KILL'], 'permitted': ['CAP_KILL']}
    lines = dict(line.split() for line in bundle.output('grep ^Cap /proc/self/status').splitlines())
    assert lines == {'CapInh:': '0' * 16, 'CapPrm:': '0' * 14 + '20', 'CapEff:': '0' * 14 + '20', 'CapBnd:': '0' * 14 + '21',
                     'CapAmb:': '0' * 16}


def test_rlimits(bundle):
    bundle.process['rlimits'] = [{'type': 'RLIMIT_NOFILE', 'soft': 100, 'hard': 200}, {'type': 'RLIMIT_CORE', 'soft': 0, 'hard': 0}]
    out = bundle.output('grep -E "open files|core" /proc/self/limits').split()
    assert out[4:6] == ['0', '0'] and out[10:12] == ['100', '200']


def test_a_limit_that_cannot_be_raised_is_an_error(bundle):
    bundle.process['rlimits'] = [{'type': 'RLIMIT_NOFILE', 'soft': 1 << 40, 'hard': 1 << 40}]
    done = bundle.run()
    assert done.returncode == 1 and 'rlimit' in done.stderr


def test_sysctl(bundle):
    bundle.linux['sysctl'] = {'net.ipv4.ip_forward': '1', 'kernel.shm_rmid_forced': '1'}
    assert bundle.output('cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced') == '1\n1'


def test_oom_score_is_left_alone_or_set(bundle):
    with open('/proc/self/oom_score_adj') as file:
        own = int(file.read())
    assert int(bundle.output('cat /proc/self/oom_score_adj')) == own
    bundle.process['oomScoreAdj'] = own + 100
    assert int(bundle.output('cat /proc/self/oom_score_adj')) == own + 100


@pytest.mark.berth
def test_scheduler_and_io_priority(bundle):
    bundle.process['scheduler'] = {'policy': 'SCHED_BATCH', 'nice': 5}
    bundle.process['ioPriority'] = {'class': 'IOPRIO_CLASS_IDLE', 'priority': 0}
    out = bundle.output('cut -d" " -f19,41 /proc/self/stat')
    assert out == '5 3'


def test_masked_and_read_only_paths(bundle):
    (bundle.rootfs / 'secret').write_text('x')
    (bundle.rootfs / 'folder').mkdir()
    (bundle.rootfs / 'folder/file').write_text('x')
    bundle.linux['maskedPaths'] = ['/secret', '/folder', '/absent']
    bundle.linux['readonlyPaths'] = ['/etc', '/absent']
    out = bundle.output('wc -c </secret; ls /folder | wc -l; touch /etc/x 2>&1; touch /var/x && echo made').splitlines()
    assert out[:2] == ['0', '0'] and 'Read-only file system' in out[2] and out[3] == 'made'


def test_read_only_root(bundle):
    bundle.config['root']['readonly'] = True
    assert 'Read-only file system' in bundle.output('touch /x 2>&1 || true')


def test_devices(bundle):
    bundle.linux['devices'] = [{'path': '/dev/own', 'type': 'c', 'major': 1, 'minor': 5, 'fileMode': 0o646, 'uid': 3, 'gid': 4},
                               {'path': '/dev/pipe', 'type': 'p', 'fileMode': 0o600}]
    out = bundle.output('stat -c "%F %t,%T %a %u:%g" /dev/own /dev/pipe /dev/null; dd if=/dev/own bs=4 count=1 2>/dev/null | wc -c')
    assert out.splitlines() == ['character special file 1,5 646 3:4', 'fifo 0,0 600 0:0', 'character special file 1,3 666 0:0', '4']


def test_device_rules(bundle):
    bundle.all_capabilities()
    bundle.process['noNewPrivileges'] = False
    out = bundle.output('mknod /tmp/mem c 1 1 && (dd if=/tmp/mem count=1 2>&1 | head -1); dd if=/dev/zero bs=1 count=1 2>/dev/null | wc -c')
    assert 'Operation not permitted' in out and out.splitlines()[-1] == '1'


# ---- mounts ---------------------------------------------------------------------------------------------------------

def mountinfo(text, target):
    """Of the last mount on the target: its options, its optional fields, the file system's options."""
    line = [line for line in text.splitlines() if line.split()[4] == target][-1]
    left, right = line.split(' - ')
    return left.split()[5].split(','), left.split()[6:], right.split()[2].split(',')


@pytest.mark.parametrize('words,wanted,unwanted', [
    (['ro'], ['ro'], []), (['nosuid', 'nodev', 'noexec'], ['rw', 'nosuid', 'nodev', 'noexec'], []), (['noatime'], ['noatime'], ['relatime']),
    (['nodiratime'], ['nodiratime'], []), (['ro', 'rw'], ['rw'], ['ro']), (['noexec', 'exec'], [], ['noexec']),
    (['nosymfollow'], ['nosymfollow'], []), (['strictatime'], [], ['relatime', 'noatime']),
])
@pytest.mark.parametrize('kind', ['bind', 'tmpfs'])
def test_mount_options(bundle, words, wanted, unwanted, kind):
    source = bundle.path / 'source'
    source.mkdir()
    bundle.mount('/mnt', source if kind == 'bind' else 'tmpfs', kind, (['bind'] if kind == 'bind' else []) + words)
    options, _, _ = mountinfo(bundle.output('cat /proc/self/mountinfo'), '/mnt')
    assert set(wanted) <= set(options) and not set(unwanted) & set(options)


@pytest.mark.parametrize('words,deep', [(['rbind', 'ro'], 'rw'), (['rbind', 'rro'], 'ro')])
def test_recursive_flags(bundle, words, deep):
    os.makedirs(bundle.path / 'source/below')
    os.system(f'mount -t tmpfs tmpfs {bundle.path}/source/below')
    try:
        bundle.mount('/mnt', bundle.path / 'source', options=words)
        out = bundle.output('cat /proc/self/mountinfo')
        assert mountinfo(out, '/mnt')[0][0] == 'ro' and mountinfo(out, '/mnt/below')[0][0] == deep
    finally:
        os.system(f'umount {bundle.path}/source/below')


def test_tmpfs_options_and_copy_up(bundle):
    (bundle.rootfs / 'data/sub').mkdir(parents=True)
    (bundle.rootfs / 'data/sub/file').write_text('kept')
    (bundle.rootfs / 'data/link').symlink_to('sub/file')
    os.chmod(bundle.rootfs / 'data/sub/file', 0o4711)
    bundle.mount('/data', 'tmpfs', 'tmpfs', ['tmpcopyup', 'size=1m', 'mode=0711'])
    out = bundle.output('cat /data/link; echo; stat -c %a /data/sub/file /data; echo new >/data/new; cat /proc/self/mountinfo')
    assert out.splitlines()[:3] == ['kept', '4711', '711']
    assert 'size=1024k' in mountinfo('\n'.join(out.splitlines()[3:]), '/data')[2]
    assert not (bundle.rootfs / 'data/new').exists()


def test_a_read_only_tmpfs_still_takes_mount_points(bundle):
    bundle.mount('/data', 'tmpfs', 'tmpfs', ['ro']).mount('/data/in/side', '/usr', options=['bind'])
    assert 'Read-only file system' in bundle.output('ls /data/in/side >/dev/null; touch /data/x 2>&1 || true')


def test_propagation(bundle):
    source = bundle.path / 'source'
    source.mkdir()
    os.system(f'mount -t tmpfs tmpfs {source} && mount --make-shared {source}')
    try:
        bundle.mount('/slave', source, options=['bind', 'rslave']).mount('/private', source, options=['bind', 'rprivate'])
        out = bundle.output('cat /proc/self/mountinfo')
        assert [word.split(':')[0] for word in mountinfo(out, '/slave')[1]] == ['master']
        assert mountinfo(out, '/private')[1] == []
    finally:
        os.system(f'umount {source}')


def test_what_a_container_mounts_stays_inside(bundle):
    source = bundle.path / 'source'
    source.mkdir()
    bundle.all_capabilities().mount('/mnt', source, options=['bind'])
    bundle.process['noNewPrivileges'] = False
    bundle.output('mkdir /mnt/x && mount -t tmpfs tmpfs /mnt/x && touch /mnt/x/seen')
    assert os.listdir(source / 'x') == []


def test_file_binds_and_missing_targets(bundle):
    (bundle.path / 'file').write_text('content')
    bundle.mount('/made/up/file', bundle.path / 'file', options=['bind', 'ro'])
    assert bundle.output('cat /made/up/file') == 'content'


def kind_of(path):
    return subprocess.run(['stat', '-f', '-c', '%T', str(path)], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.berth
def test_idmapped_mount(bundle):
    source = bundle.path / 'source'
    source.mkdir()
    (source / 'file').touch()
    os.chown(source / 'file', 1234, 1234)
    maps = [{'containerID': 1234, 'hostID': 42, 'size': 1}]
    bundle.mount('/mnt', source, options=['bind'])
    bundle.config['mounts'][-1].update(uidMappings=maps, gidMappings=maps)
    done = bundle.shell('stat -c %u:%g /mnt/file').run()
    if 'set id map of mount: Invalid argument' in done.stderr and kind_of(source) == 'tmpfs':
        pytest.skip('tmpfs takes no id maps before Linux 6.3')
    assert (done.stdout, done.stderr) == ('42:42\n', '')


# ---- namespaces -----------------------------------------------------------------------------------------------------

def test_user_namespace(bundle):
    bundle.users()
    out = bundle.output('id -u; cat /proc/self/uid_map; touch /var/made; stat -c "%F %t,%T" /dev/null; echo x >/dev/null && echo wrote')
    assert out.split() == '0 0 100000 65536 character special file 1,3 wrote'.split()
    assert os.stat(bundle.rootfs / 'var/made').st_uid == 100000


def test_exec_into_a_user_namespace(bundle):
    bundle.users().up()
    assert bundle.exec('cat', '/proc/self/uid_map').stdout.split() == ['0', '100000', '65536']
    assert bundle.exec('id', '-u', flags=['--user', '1000']).stdout == '1000\n'


@pytest.mark.berth
def test_time_namespace(bundle):
    bundle.namespace('time')
    bundle.linux['timeOffsets'] = {'boottime': {'secs': 1000000, 'nanosecs': 5}, 'monotonic': {'secs': 7}}
    out = bundle.output('cat /proc/self/timens_offsets; cut -d. -f1 /proc/uptime').split()
    assert out[:6] == ['monotonic', '7', '0', 'boottime', '1000000', '5'] and int(out[6]) > 1000000


@pytest.mark.berth
def test_exec_into_a_time_namespace(bundle):
    bundle.namespace('time')
    bundle.linux['timeOffsets'] = {'boottime': {'secs': 1000000}}
    bundle.up()
    assert int(bundle.exec('cat', '/proc/uptime').stdout.split('.')[0]) > 1000000


@pytest.mark.parametrize('kind,file', [('network', 'net'), ('ipc', 'ipc'), ('uts', 'uts'), ('pid', 'pid')])
def test_join_by_path(bundle, kind, file, tmp_path_factory, image):
    from conftest import Bundle
    first = Bundle(tmp_path_factory.mktemp('first'), image)
    try:
        first.up()
        path = f'/proc/{first.state()["pid"]}/ns/{file}'
        bundle.namespace(kind, path)
        bundle.config['hostname'] = 'second' if kind != 'uts' else ''
        assert bundle.output(f'readlink /proc/self/ns/{file}') == os.readlink(path)
    finally:
        first.remove()


@pytest.mark.berth
def test_join_user_and_network_namespace(bundle, tmp_path_factory, image):
    from conftest import Bundle
    first = Bundle(tmp_path_factory.mktemp('first'), image)
    try:
        first.users().up()
        folder = f'/proc/{first.state()["pid"]}/ns'
        bundle.users().namespace('user', f'{folder}/user').namespace('network', f'{folder}/net')
        del bundle.linux['uidMappings'], bundle.linux['gidMappings']
        bundle.config['mounts'] = [mount for mount in bundle.config['mounts'] if not mount['destination'].startswith('/sys')]
        out = bundle.output('readlink /proc/self/ns/user; readlink /proc/self/ns/net; id -u').split()
        assert out == [os.readlink(f'{folder}/user'), os.readlink(f'{folder}/net'), '0']
    finally:
        first.remove()


def test_cgroup_namespace_and_limits(bundle):
    bundle.namespace('cgroup')
    bundle.linux['resources'].update(memory={'limit': 64 << 20}, pids={'limit': 77})
    out = bundle.output('cat /proc/self/cgroup; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null;'
                        'touch /sys/fs/cgroup/memory/x /sys/fs/cgroup/x 2>&1; true').splitlines()
    assert all(line.endswith(':/') for line in out if line.count(':') == 2 and line[0].isdigit())
    assert str(64 << 20) in out and any('Read-only' in line for line in out)


# ---- hooks ----------------------------------------------------------------------------------------------------------

def test_hooks_of_all_kinds_in_order(bundle):
    log = bundle.path / 'log'
    log.touch()
    bundle.mount('/log', log, options=['bind'])
    for kind in ('prestart', 'createRuntime', 'createContainer', 'poststart', 'poststop'):
        bundle.hook(kind, f'echo {kind} $(cat) >>{log}')
    bundle.config['hooks']['startContainer'] = [
        {'path': '/bin/sh', 'args': ['sh', '-c', 'echo startContainer $(cat) >>/log'], 'env': ['PATH=/bin']}]
    bundle.config['annotations'] = {'a.key': 'its value'}
    bundle.up('echo process >>/log; sleep 1000')
    end = time.monotonic() + 3
    while 'process' not in log.read_text() or 'poststart' not in log.read_text():
        assert time.monotonic() < end
        time.sleep(0.02)
    pid = bundle.state()['pid']
    bundle.remove()
    lines = [line.split(' ', 1) for line in log.read_text().splitlines()]
    names = [line[0] for line in lines]
    assert names[:4] == ['prestart', 'createRuntime', 'createContainer', 'startContainer'] and names[-1] == 'poststop'
    assert sorted(names[4:6]) == ['poststart', 'process']
    states = {line[0]: json.loads(line[1]) for line in lines if len(line) > 1}
    assert all(state['id'] == bundle.id and state['bundle'] == str(bundle.path / 'bundle') for state in states.values())
    assert all(state['annotations'] == {'a.key': 'its value'} for state in states.values())
    assert states['prestart']['pid'] == states['createRuntime']['pid'] == states['poststart']['pid'] == pid
    assert [states[kind]['status'] for kind in ('createRuntime', 'startContainer', 'poststart', 'poststop')] == [
        'creating', 'created', 'running', 'stopped']


def test_create_container_hooks_see_the_mounts_below_the_rootfs(bundle):
    bundle.mount('/data', 'tmpfs', 'tmpfs')
    bundle.hook('createContainer', f'touch {bundle.rootfs}/data/by-hook')
    assert bundle.output('ls /data') == 'by-hook'
    assert os.listdir(bundle.rootfs / 'data') == []


@pytest.mark.parametrize('kind', ['prestart', 'createRuntime', 'createContainer'])
def test_a_failing_hook_ends_create(bundle, kind):
    bundle.hook(kind, 'echo its reason >&2; exit 5')
    done = bundle.create()
    assert done.returncode == 1 and 'its reason' in done.stderr and bundle.remains() == []


def test_a_hook_that_takes_too_long(bundle):
    bundle.hook('createRuntime', 'sleep 100', timeout=1)
    done = bundle.create()
    assert done.returncode == 1 and 'timeout' in done.stderr and bundle.remains() == []


# ---- seccomp --------------------------------------------------------------------------------------------------------

def test_seccomp(bundle):
    bundle.linux['seccomp'] = {'defaultAction': 'SCMP_ACT_ALLOW', 'architectures': ['SCMP_ARCH_X86_64'],
                               'syscalls': [{'names': ['mkdir', 'mkdirat'], 'action': 'SCMP_ACT_ERRNO', 'errnoRet': 30}]}
    assert 'Read-only file system' in bundle.output('mkdir /x 2>&1 || true; grep Seccomp: /proc/self/status')
    bundle.up()
    assert 'Read-only file system' in bundle.exec('mkdir', '/x').stderr
