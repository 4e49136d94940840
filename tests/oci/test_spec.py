"""What a config.json may ask for, seen from inside the container."""
import json
import os
import shutil
import subprocess
import time

import pytest

from conftest import OURS, RUNTIME, cgroup_roots, needs_linux


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


def test_ambient_capabilities(bundle):
    bundle.process['user'] = {'uid': 1000, 'gid': 1000}
    kinds = ('bounding', 'effective', 'permitted', 'inheritable', 'ambient')
    bundle.process['capabilities'] = {kind: ['CAP_NET_RAW'] for kind in kinds}
    lines = dict(line.split() for line in bundle.output('grep ^Cap /proc/self/status').splitlines())
    assert set(lines.values()) == {'0' * 12 + '2000'}


@pytest.mark.parametrize('wanted', [True, False])
def test_no_new_privileges(bundle, wanted):
    bundle.process['noNewPrivileges'] = wanted
    assert bundle.output('grep NoNewPrivs /proc/self/status').split()[1] == str(int(wanted))


@pytest.mark.parametrize('key,word,file', [('selinuxLabel', 'selinux', '/sys/fs/selinux'), ('apparmorProfile', 'apparmor', '/sys/kernel/security/apparmor')])
def test_labels_without_their_security_module(bundle, key, word, file):
    if os.path.exists(file):
        pytest.skip(f'this kernel has {word}')
    bundle.process[key] = 'some_label'
    done = bundle.args('true').run()
    assert done.returncode == 1 and word in done.stderr.lower() and bundle.remains() == []


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


@pytest.mark.parametrize('word,option,begin', [
    ('ro', 'ro', ''), ('rro', 'ro', ''), ('rnosuid', 'nosuid', ''), ('rnodev', 'nodev', ''), ('rnoexec', 'noexec', ''),
    ('rnoatime', 'noatime', ''), ('rnodiratime', 'nodiratime', ''), ('rnosymfollow', 'nosymfollow', ''), ('rrelatime', 'relatime', 'noatime'),
    ('rrw', 'rw', 'ro'), ('rsuid', '-nosuid', 'nosuid'), ('rdev', '-nodev', 'nodev'), ('rexec', '-noexec', 'noexec'),
    ('rdiratime', '-nodiratime', 'nodiratime'), ('rstrictatime', '-relatime', ''), ('rsymfollow', '-nosymfollow', 'nosymfollow'),
])
def test_recursive_flags(bundle, word, option, begin):
    """With the r in front a word reaches the mounts below, too; a `-` stands for an option that is not there."""
    os.makedirs(bundle.path / 'source/below')
    os.system(f'mount -t tmpfs -o "{begin or "rw"}" tmpfs {bundle.path}/source/below')
    try:
        bundle.mount('/mnt', bundle.path / 'source', options=['rbind', word])
        out = bundle.output('cat /proc/self/mountinfo')
        for target, reached in (('/mnt', True), ('/mnt/below', word != 'ro')):
            has = option.lstrip('-') in mountinfo(out, target)[0]
            assert has == (reached and not option.startswith('-')), target
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


@pytest.mark.parametrize('word,fields', [('rprivate', []), ('private', []), ('rslave', ['master']), ('slave', ['master']),
                                         ('rshared', ['shared']), ('shared', ['shared']), ('unbindable', ['unbindable'])])
def test_propagation_of_a_mount(bundle, word, fields):
    source = bundle.path / 'source'
    source.mkdir()
    os.system(f'mount -t tmpfs tmpfs {source} && mount --make-shared {source}')
    try:
        bundle.mount('/mnt', source, options=['bind', word])
        found = mountinfo(bundle.output('cat /proc/self/mountinfo'), '/mnt')[1]
        assert set(fields) <= {item.split(':')[0] for item in found} and bool(found) == bool(fields)
    finally:
        os.system(f'umount {source}')


@pytest.mark.parametrize('word,fields', [('private', []), ('rprivate', []), ('shared', ['shared']), ('unbindable', ['unbindable'])])
def test_propagation_of_the_root(bundle, word, fields):
    bundle.linux['rootfsPropagation'] = word
    found = mountinfo(bundle.output('cat /proc/self/mountinfo'), '/')[1]
    assert [item.split(':')[0] for item in found] == fields


@pytest.mark.parametrize('word', ['slave', 'rslave'])
def test_a_slave_root_gets_what_the_host_mounts(bundle, word):
    """With the root a slave of the host's, a later mount of the host arrives; nothing goes the other way."""
    source = bundle.path / 'source'
    source.mkdir()
    os.system(f'mount -t tmpfs tmpfs {source} && mount --make-shared {source} && mkdir {source}/below {source}/inner')
    try:
        bundle.linux['rootfsPropagation'] = word
        bundle.mount('/mnt', source, options=['rbind', 'rslave']).all_capabilities()
        bundle.process['noNewPrivileges'] = False
        bundle.up('mount -t tmpfs inner /mnt/inner; touch /mnt/inner/seen; sleep 1000')
        os.system(f'mount -t tmpfs later {source}/below')
        assert 'later /mnt/below' in bundle.exec('cat', '/proc/mounts').stdout
        assert os.listdir(source / 'inner') == []
    finally:
        os.system(f'umount {source}/below; umount {source}')


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
    if 'set id map of mount: invalid argument' in done.stderr and kind_of(source) == 'tmpfs':
        pytest.skip('tmpfs takes no id maps before Linux 6.3')
    assert (done.stdout, done.stderr) == ('42:42\n', '')


@pytest.mark.berth
@needs_linux(6, 3, 'maps ids of a tmpfs')
def test_idmapped_tmpfs(bundle):
    maps = [{'containerID': 0, 'hostID': 42, 'size': 1}]
    bundle.mount('/mnt', 'tmpfs', 'tmpfs')
    bundle.config['mounts'][-1].update(uidMappings=maps, gidMappings=maps)
    assert bundle.output('stat -c %u:%g /mnt') == '42:42'


@pytest.mark.berth
@needs_linux(6, 3, 'maps ids of a tmpfs')
def test_idmapped_recursively(bundle):
    """`idmap` maps one mount, `ridmap` all that are bound along."""
    maps = [{'containerID': 0, 'hostID': 42, 'size': 1}]
    os.makedirs(bundle.path / 'source/below')
    os.system(f'mount -t tmpfs tmpfs {bundle.path}/source/below')
    try:
        for word, deep in (('idmap', '0'), ('ridmap', '42')):
            bundle.mount(f'/{word}', bundle.path / 'source', options=['rbind', word])
            bundle.config['mounts'][-1].update(uidMappings=maps, gidMappings=maps)
            assert bundle.output(f'stat -c %u /{word} /{word}/below').split() == ['42', deep]
    finally:
        os.system(f'umount {bundle.path}/source/below')


@pytest.mark.berth
@pytest.mark.parametrize('late', [False, True])
def test_a_mount_on_the_root(bundle, late):
    """It takes the root's place; what is mounted after it is mounted in it."""
    source = bundle.path / 'other'
    shutil.copytree(bundle.rootfs, source, symlinks=True)
    (source / 'this-one').touch()
    bundle.config['mounts'].insert(0, {'destination': '/', 'type': 'bind', 'source': str(source), 'options': ['bind']})
    if late:
        bundle.hook('createRuntime', 'true')
    out = bundle.output('ls / /..; cat /proc/self/mountinfo; stat -c %a /dev/null').splitlines()
    assert out.count('this-one') == 2 and out[-1] == '666'
    assert [line.split()[4] for line in out if ' - ' in line].count('/') == 1
    bundle.up()
    assert 'this-one' in bundle.exec('ls', '/').stdout


def test_an_overlay_of_folders_of_the_host(bundle):
    """Paths in a file system's options are the host's."""
    folders = [bundle.path / name for name in ('lower', 'upper', 'work')]
    for folder in folders:
        folder.mkdir()
    (folders[0] / 'below').write_text('lower data')
    options = [f'{name}dir={path}' for name, path in zip(('lower', 'upper', 'work'), folders)]
    bundle.mount('/mnt', 'overlay', 'overlay', options)
    assert bundle.output('cat /mnt/below; touch /mnt/above') == 'lower data'
    assert os.listdir(folders[1]) == ['above']


@pytest.mark.berth
def test_features_tell_the_truth(bundle):
    """Each mount option that `features` lists is taken; an unknown one goes to the file system, which refuses it."""
    done = bundle.call('features')
    told = json.loads(done.stdout)
    assert told['ociVersionMax'].startswith('1.2') and len(told['hooks']) == 6 and len(told['linux']['namespaces']) == 8
    assert set(told['potentiallyUnsafeConfigAnnotations']) == {'org.criu.config', 'org.systemd.property.'}
    assert told['linux']['mountExtensions']['idmap']['enabled'] is True
    words = [word for word in told['mountOptions'] if word not in ('idmap', 'ridmap', 'remount', 'bind', 'rbind', 'mand')]
    for word in words:
        bundle.mount(f'/tmp/{word}', 'tmpfs', 'tmpfs', [word])
    targets = [line.split()[4] for line in bundle.output('cat /proc/self/mountinfo').splitlines()]
    assert {f'/tmp/{word}' for word in words} <= set(targets)
    bundle.mount('/tmp/x', 'tmpfs', 'tmpfs', ['nosuchword'])
    done = bundle.run()
    assert done.returncode == 1 and 'nosuchword' in done.stderr


# ---- namespaces -----------------------------------------------------------------------------------------------------

def test_user_namespace(bundle):
    bundle.users()
    out = bundle.output('id -u; cat /proc/self/uid_map; touch /var/made; stat -c "%F %t,%T" /dev/null; echo x >/dev/null && echo wrote')
    assert out.split() == '0 0 100000 65536 character special file 1,3 wrote'.split()
    assert os.stat(bundle.rootfs / 'var/made').st_uid == 100000


@pytest.mark.berth
@needs_linux(6, 15, 'binds from a mount that nobody sees')
def test_devices_in_a_user_namespace(bundle):
    """They are made by the document, whether the host has such a node or not."""
    bundle.users()
    bundle.linux['devices'] = [{'path': '/dev/own', 'type': 'c', 'major': 1, 'minor': 5, 'fileMode': 0o157, 'uid': 3, 'gid': 4},
                               {'path': '/dev/pipe', 'type': 'p', 'fileMode': 0o600}, {'path': '/dev/full', 'type': 'c', 'major': 1, 'minor': 5}]
    out = bundle.output('stat -c "%F %t,%T %a %u:%g" /dev/own /dev/pipe /dev/full /dev/null; dd if=/dev/own bs=4 count=1 2>/dev/null | wc -c')
    assert out.splitlines() == ['character special file 1,5 157 3:4', 'fifo 0,0 600 0:0', 'character special file 1,5 666 0:0',
                                'character special file 1,3 666 0:0', '4']


@pytest.mark.berth
def test_devices_when_we_are_in_a_user_namespace(bundle):
    """Nobody may make one there; the host's are bound."""
    bundle.users(0)
    for kind in ('uidMappings', 'gidMappings'):
        bundle.linux[kind][0]['size'] = 1
    bundle.config['mounts'] = [mount for mount in bundle.config['mounts'] if not mount['destination'].startswith(('/sys', '/dev/pts'))]
    bundle.linux['resources'] = {}
    bundle.shell('echo x >/dev/null && stat -c %t,%T /dev/null').save()
    script = 'read go; mount -t proc proc /proc && exec "$@"'
    command = ['unshare', '--user', '--mount', '--pid', '--fork', 'sh', '-c', script, 'sh', RUNTIME, '--root', str(bundle.root),
               'run', '-b', str(bundle.path / 'bundle'), bundle.id]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 5
    while os.readlink(f'/proc/{process.pid}/ns/user') == os.readlink('/proc/self/ns/user'):
        assert time.monotonic() < end
        time.sleep(0.01)
    for kind in ('uid_map', 'gid_map'):
        with open(f'/proc/{process.pid}/{kind}', 'w') as file:
            file.write('0 0 65536')
    out, errors = process.communicate('go\n', timeout=30)
    assert out == '1,3\n', errors


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


@pytest.mark.berth
def test_join_a_mount_namespace(bundle):
    """The container's tree is built in it: another process there sees its mounts."""
    keeper = subprocess.Popen(['unshare', '--mount', '--propagation', 'private', 'sleep', '1000'])
    try:
        path = f'/proc/{keeper.pid}/ns/mnt'
        end = time.monotonic() + 3
        while os.readlink(path) == os.readlink('/proc/self/ns/mnt'):
            assert time.monotonic() < end
            time.sleep(0.01)
        bundle.namespace('mount', path).mount('/seen', 'tmpfs', 'tmpfs')
        wanted = os.readlink(path)
        assert bundle.output('readlink /proc/self/ns/mnt; ls -d /bin') == f'{wanted}\n/bin'
        with open(f'/proc/{keeper.pid}/mountinfo') as file:
            assert any(line.split()[4].endswith('/seen') for line in file)
    finally:
        keeper.kill()
        keeper.wait()


@pytest.mark.parametrize('kind', ['cgroup', 'time'])
def test_join_more_by_path(bundle, kind, tmp_path_factory, image):
    from conftest import Bundle
    if kind == 'time' and RUNTIME != OURS:
        pytest.skip('about Berth alone')
    first = Bundle(tmp_path_factory.mktemp('first'), image)
    try:
        first.namespace(kind).up()
        path = f'/proc/{first.state()["pid"]}/ns/{kind}'
        bundle.namespace(kind, path)
        assert bundle.output(f'readlink /proc/self/ns/{kind}') == os.readlink(path)
    finally:
        first.remove()


def test_cgroup_namespace_and_limits(bundle):
    bundle.namespace('cgroup')
    bundle.linux['resources'].update(memory={'limit': 64 << 20}, pids={'limit': 77})
    out = bundle.output('cat /proc/self/cgroup; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null;'
                        'touch /sys/fs/cgroup/memory/x /sys/fs/cgroup/x 2>&1; true').splitlines()
    assert all(line.endswith(':/') for line in out if line.count(':') == 2 and line[0].isdigit())
    assert str(64 << 20) in out and any('Read-only' in line for line in out)


def test_an_empty_cpuset_above_is_filled(bundle):
    """A caller's `mkdir` leaves a v1 cpuset that takes no tasks."""
    parent = f'/sys/fs/cgroup/cpuset/{bundle.id}-parent'
    if not os.path.exists('/sys/fs/cgroup/cpuset/cpuset.cpus'):
        pytest.skip('no v1 cpuset here')
    os.mkdir(parent)
    try:
        bundle.linux['cgroupsPath'] = f'/{bundle.id}-parent/{bundle.id}'
        assert 'cpuset' in bundle.output('cat /proc/self/cgroup')
        with open(f'{parent}/cpuset.cpus') as file, open('/sys/fs/cgroup/cpuset/cpuset.cpus') as root:
            assert file.read() == root.read()
    finally:
        bundle.remove()
        for root in cgroup_roots():
            if os.path.isdir(f'{root}/{bundle.id}-parent'):
                os.rmdir(f'{root}/{bundle.id}-parent')


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
