"""docker run: the options of the thin path, each honoured inside the container, and the exit codes."""
import errno
import json
import os
import time

import pytest

from engines import is_up, SLOWER


def inside(docker, *options, script):
    """The output lines of a shell script in a fresh container."""
    return docker.ok('run', '--rm', *options, 'bb', 'sh', '-c', script).splitlines()


# ---- exit codes -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('command, code', [
    (['true'], 0),
    (['sh', '-c', 'exit 7'], 7),
    (['/nosuch'], 127),
    (['nosuch-in-path'], 127),
    (['/etc/not-a-program'], 126),
    (['/etc'], 126),
    (['sh', '-c', 'kill -KILL $$'], 137),
    (['sh', '-c', 'kill -TERM $$'], 143),
])
def test_exit_code(docker, command, code):
    # PID 1 can't be killed from inside its own namespace: with --init the command is another.
    options = ['--init'] if 'kill' in command[-1] else []
    assert docker('run', '--rm', *options, 'bb', *command).code == code


@pytest.mark.parametrize('arguments', [
    ['--nosuch-flag', 'bb'],
    ['Not/Valid', 'true'],
    ['-p', 'x:y', 'bb', 'true'],
    ['--memory', '1', 'bb', 'true'],
])
def test_exit_code_125_when_docker_itself_fails(docker, arguments):
    assert docker('run', '--rm', *arguments).code == 125


def test_a_missing_command_is_named(docker):
    result = docker('run', '--rm', 'bb', '/nosuch')
    assert 'exec: "/nosuch": stat /nosuch: no such file or directory' in result.err
    result = docker('run', '--rm', 'bb', 'nosuch-in-path')
    assert 'exec: "nosuch-in-path": executable file not found in $PATH' in result.err
    result = docker('run', '--rm', 'bb', '/etc/not-a-program')
    assert 'permission denied' in result.err


def test_a_failed_start_leaves_a_created_container_with_its_code(docker, name):
    assert docker('run', '--name', name, 'bb', '/nosuch').code == 127
    state = docker.inspect(name)['State']
    assert state['ExitCode'] == 127 and state['Running'] is False and 'no such file' in state['Error']
    assert docker('start', name).code == 1


# ---- input and output -----------------------------------------------------------------------------------------------

@pytest.mark.short_vm
def test_stdout_and_stderr_stay_apart(docker):
    result = docker('run', '--rm', 'bb', 'sh', '-c', 'echo out; echo err >&2')
    assert (result.out, result.err) == ('out\n', 'err\n')


@pytest.mark.short_vm
def test_stdin_is_piped_and_its_end_is_seen(docker):
    assert docker.ok('run', '--rm', '-i', 'bb', 'wc', '-c', input='x' * 100_000).strip() == '100000'


def test_without_i_stdin_is_empty(docker):
    assert docker.ok('run', '--rm', 'bb', 'wc', '-c', input='ignored').strip() == '0'


def test_a_million_bytes_of_output_arrive(docker):
    result = docker('run', '--rm', 'bb', 'sh', '-c', 'yes 0123456789abcde | head -c 4000000')
    assert result.code == 0 and len(result.out) == 4_000_000 and result.out.endswith('0123456789abcde\n')


def test_the_last_bytes_are_there(docker):
    for _ in range(5):
        assert docker('run', '--rm', 'bb', 'sh', '-c', 'echo first; printf last').out == 'first\nlast'


@pytest.mark.short_vm
def test_a_terminal(terminal):
    shell = terminal('run', '-it', '--rm', 'bb', 'sh', rows=33, columns=77)
    shell.expect('#')
    shell.send('tty; stty size\n')
    shell.expect(r'/dev/pts/0\r\n33 77')
    shell.resize(44, 88)
    shell.send('sleep 0.5; stty size\n')
    shell.expect(r'\n44 88')
    shell.send('exit 5\n')
    assert shell.wait() == 5


def test_ctrl_c_on_a_terminal(terminal):
    shell = terminal('run', '-it', '--rm', 'bb', 'sh')
    shell.expect('#')
    shell.send('sleep 100\n')
    shell.expect('sleep 100\r\n')
    time.sleep(0.5)  # the shell throws typed bytes away when it changes the terminal's mode
    shell.send('\x03')
    shell.expect('#')
    shell.send('echo still $((40 + 2))\n')
    shell.expect('still 42')
    shell.expect('#')
    time.sleep(0.2)
    shell.send('\x04')
    assert shell.wait() in (0, 130)


def test_detached_run_prints_the_id(docker, name):
    identity = docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    assert len(identity) == 64 and docker.inspect(name)['Id'] == identity


def test_cidfile(docker, tmp_path, name):
    docker.ok('run', '-d', '--name', name, '--cidfile', str(tmp_path / 'id'), 'bb', 'sleep', '100')
    assert (tmp_path / 'id').read_text() == docker.inspect(name)['Id']


# ---- who and where --------------------------------------------------------------------------------------------------

@pytest.mark.short_vm
def test_environment(docker):
    lines = inside(docker, '-e', 'A=1', '-e', 'B=two words', '-h', 'box', script='echo $A; echo $B; echo $HOME; hostname; echo $PATH')
    assert lines == ['1', 'two words', '/root', 'box', '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin']


def test_hostname_is_the_short_id(docker, name):
    docker.ok('run', '--name', name, 'bb', 'hostname')
    assert docker.ok('logs', name) == docker.inspect(name)['Id'][:12]


def test_working_directory_is_made_when_missing(docker):
    assert inside(docker, '-w', '/not/yet/there', script='pwd') == ['/not/yet/there']


@pytest.mark.parametrize('user, ids', [
    ('app', 'uid=1000(app) gid=1000(app) groups=1000(app),1234(extra)'),
    ('1000', 'uid=1000(app) gid=1000(app) groups=1000(app),1234(extra)'),
    ('app:daemon', 'uid=1000(app) gid=1(daemon) groups=1(daemon)'),
    ('1000:1234', 'uid=1000(app) gid=1234(extra) groups=1234(extra)'),
    ('4242:4343', 'uid=4242 gid=4343 groups=4343'),
])
def test_user(docker, user, ids):
    assert inside(docker, '-u', user, script='id') == [ids]


def test_home_of_the_user(docker):
    assert inside(docker, '-u', 'app', script='echo $HOME') == ['/home/app']


@pytest.mark.short_vm
def test_an_unknown_user_is_refused(docker):
    result = docker('run', '--rm', '-u', 'nobody-here', 'bb', 'true')
    assert result.code == 125 and 'nobody-here' in result.err


def test_entrypoint(docker):
    assert docker.ok('run', '--rm', '--entrypoint', '/bin/echo', 'bb', 'a', 'b') == 'a b'


def test_names_are_drawn_and_ids_differ(docker):
    first, second = docker.ok('create', 'bb'), docker.ok('create', 'bb')
    assert first != second
    assert docker.inspect(first)['Name'] != docker.inspect(second)['Name']


def test_a_taken_name(docker, name):
    identity = docker.ok('create', '--name', name, 'bb')
    result = docker('run', '--name', name, 'bb', 'true')
    assert result.code == 125
    assert f'The container name "/{name}" is already in use by container "{identity}"' in result.err


def test_labels(docker, name):
    docker.ok('create', '--name', name, '-l', 'a=1', '--label', 'b', 'bb')
    assert docker.inspect(name)['Config']['Labels'] == {'a': '1', 'b': ''}


@pytest.mark.short_vm
def test_rm_removes(docker, name):
    docker.ok('run', '--rm', '--name', name, 'bb', 'true')
    assert docker('inspect', name).code == 1
    docker.ok('run', '--rm', '--name', name, 'bb', 'true')


# ---- limits ---------------------------------------------------------------------------------------------------------

def limit(controller, v1, v2):
    """Reads a limit from the container's own view of its cgroup, v1 or v2."""
    return f'cat /sys/fs/cgroup/{controller}/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}'


def test_memory(docker, name):
    assert inside(docker, '--memory', '64m', script=limit('memory', 'memory.limit_in_bytes', 'memory.max')) == ['67108864']
    # More than it may have: killed, and the record says why.
    result = docker('run', '--name', name, '--memory', '32m', '--memory-swap', '32m', 'bb', 'sh', '-c',
                    'head -c 100000000 /dev/zero | tail')
    assert result.code == 137 or docker.inspect(name)['State']['OOMKilled']


def test_cpus(docker):
    if docker.vm:  # the quota is the host's, and test_isolation.py looks for it there; the guest has that many processors
        assert inside(docker, '--cpus', '1.5', script='grep -c ^processor /proc/cpuinfo') == ['2']
        return
    lines = inside(docker, '--cpus', '0.5', script='cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us'
                   ' 2>/dev/null || tr " " "\\n" </sys/fs/cgroup/cpu.max')
    assert lines == ['50000', '100000']


def test_pids_limit(docker):
    assert inside(docker, '--pids-limit', '20', script=limit('pids', 'pids.max', 'pids.max')) == ['20']
    result = docker('run', '--rm', '--pids-limit', '10', 'bb', 'sh', '-c', 'for i in $(seq 40); do sleep 5 & done; exit 3')
    assert 'fork' in result.err


# ---- what a container may do ----------------------------------------------------------------------------------------

def capabilities(docker, *options):
    return int(inside(docker, *options, script='grep CapEff /proc/self/status')[0].split()[1], 16)


CHOWN, KILL, NET_RAW, SYS_ADMIN, SYS_TIME = 0, 5, 13, 21, 25


def test_default_capabilities(docker):
    assert capabilities(docker) == 0xa80425fb


def test_cap_drop_and_add(docker):
    assert not capabilities(docker, '--cap-drop', 'CHOWN') & 1 << CHOWN
    assert capabilities(docker, '--cap-drop', 'ALL') == 0
    assert capabilities(docker, '--cap-drop', 'ALL', '--cap-add', 'KILL') == 1 << KILL
    assert capabilities(docker, '--cap-add', 'SYS_TIME') & 1 << SYS_TIME
    assert capabilities(docker, '-u', 'app') == 0


def test_an_unknown_capability_is_refused(docker):
    assert docker('run', '--rm', '--cap-add', 'NOSUCH', 'bb', 'true').code == 125


def test_what_the_defaults_forbid(docker):
    # Each command would do harm outside; each must fail.
    for command in ('mount -t tmpfs x /tmp', 'mknod /tmp/sda b 8 0 && dd if=/tmp/sda of=/dev/null count=1',
                    'echo 1 >/proc/sys/kernel/panic', 'echo x >/proc/sysrq-trigger', 'hostname new',
                    'mkdir /sys/fs/cgroup/memory/x /sys/fs/cgroup/x', 'cat /proc/kcore | head -c 1 | grep .',
                    'unshare -m true', 'chroot /proc/1/root/../.. true && mount -o remount,rw /sys'):
        assert docker('run', '--rm', 'bb', 'sh', '-c', command).code != 0, command


@pytest.mark.short_vm
def test_seccomp_is_on(docker):
    assert inside(docker, script='grep -w Seccomp: /proc/self/status') == ['Seccomp:\t2']


def no_mkdir(tmp_path, **more):
    """A profile that Docker's client takes by its file's name: everything but making folders, which is "text file busy"."""
    path = tmp_path / 'profile.json'
    calls = [{'names': ['mkdir', 'mkdirat', 'no_call_of_this_name'], 'action': 'SCMP_ACT_ERRNO', 'errnoRet': errno.ETXTBSY}]
    path.write_text(json.dumps({'defaultAction': 'SCMP_ACT_ALLOW', 'syscalls': calls, **more}, indent=1))
    return f'seccomp={path}'


BUSY = "mkdir: can't create directory '/x': Text file busy"


@pytest.mark.short_vm
def test_a_seccomp_profile_of_ones_own(docker, name, tmp_path):
    """Also for what is executed later, and after a restart."""
    docker.ok('run', '-d', '--name', name, '--security-opt', no_mkdir(tmp_path), 'bb', 'sh', '-c', 'mkdir /x; echo up; exec sleep 100')
    is_up(docker, name)
    assert docker('logs', name).err.strip() == BUSY
    for _ in range(2):
        done = docker('exec', name, 'sh', '-c', 'mkdir /x; touch /y')
        assert (done.code, done.err.strip()) == (0, BUSY)
        docker.ok('restart', '-t', '0', name)
        is_up(docker, name)
    assert 'SCMP_ACT_ERRNO' in docker.inspect(name)['HostConfig']['SecurityOpt'][0]


def test_no_seccomp(docker):
    assert inside(docker, '--security-opt', 'seccomp=unconfined', script='grep -w Seccomp: /proc/self/status') == ['Seccomp:\t0']


@pytest.mark.differs('knows the word only since 23')
def test_the_builtin_profile_by_its_name(docker):
    docker.needs((1, 42), 'takes builtin for a file')
    script = 'grep -w Seccomp: /proc/self/status'
    assert inside(docker, '--security-opt', 'seccomp=unconfined', '--security-opt', 'seccomp=builtin', script=script) == ['Seccomp:\t2']


def test_a_profile_knows_the_capabilities(docker, tmp_path):
    """Docker's form: a rule for who has a capability, and what it says of an architecture."""
    rule = {'names': ['sethostname'], 'action': 'SCMP_ACT_ALLOW', 'includes': {'caps': ['CAP_SYS_ADMIN']}}
    profile = {'defaultAction': 'SCMP_ACT_ALLOW', 'archMap': [{'architecture': 'SCMP_ARCH_X86_64', 'subArchitectures': ['SCMP_ARCH_X86']}],
               'syscalls': [{**rule, 'action': 'SCMP_ACT_ERRNO', 'errnoRet': errno.ETXTBSY, 'includes': {}, 'excludes': rule['includes']}]}
    (tmp_path / 'caps.json').write_text(json.dumps(profile))
    option = ['--security-opt', f'seccomp={tmp_path}/caps.json']
    assert 'busy' in docker('run', '--rm', *option, 'bb', 'hostname', 'new').err.lower()
    assert docker('run', '--rm', *option, '--cap-add', 'SYS_ADMIN', 'bb', 'hostname', 'new').code == 0


@pytest.mark.berth
@pytest.mark.parametrize('text, said', [
    ('{"defaultAction":"SCMP_ACT_PAINT"}', 'SCMP_ACT_PAINT'),
    ('{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","args":[{"index":9,"value":0,"op":"SCMP_CMP_EQ"}]}]}', ''),
    ('{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}', 'nobody would listen'),
    ('{"defaultAction":7}', 'defaultAction'),
])
def test_a_profile_that_is_wrong_is_refused_in_one_line(docker, name, tmp_path, text, said):
    (tmp_path / 'wrong.json').write_text(text)
    done = docker('run', '--name', name, '--security-opt', f'seccomp={tmp_path}/wrong.json', 'bb', 'true')
    lines = [line for line in done.err.splitlines() if 'Error response' in line]
    assert done.code == 125 and len(lines) == 1 and 'HostConfig.SecurityOpt: ' in lines[0] and said in lines[0], done
    assert docker('inspect', name).code == 1


@pytest.mark.berth
def test_a_path_is_no_profile(api):
    """Clients send the file's text; the daemon opens no file that a client names."""
    answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': {'SecurityOpt': ['seccomp=/etc/passwd']}})
    assert answer.status == 400 and 'Decoding seccomp profile failed' in answer.message


def test_processes_of_the_host_are_not_seen(docker):
    assert inside(docker, script='ps -o pid,comm | tail -n +2 | head -n 1')[0].split() == ['1', 'sh']


def test_descriptors_of_the_engine_do_not_leak(docker):
    assert inside(docker, script='ls /proc/self/fd | tr "\\n" " "')[0].split() == ['0', '1', '2', '3']


def test_dev(docker):
    lines = inside(docker, script='ls /dev')
    assert {'null', 'zero', 'full', 'random', 'urandom', 'tty', 'ptmx', 'pts', 'shm', 'mqueue', 'fd', 'stdin', 'stdout',
            'stderr'} <= set(lines)
    assert not {'sda', 'vda', 'kmsg', 'mem', 'kvm'} & set(lines)


def test_read_only(docker):
    assert docker('run', '--rm', '--read-only', 'bb', 'touch', '/x').code == 1
    assert inside(docker, '--read-only', script='echo x >/dev/shm/x && cat /dev/shm/x') == ['x']


def test_init_reaps(docker):
    assert inside(docker, '--init', script='cat /proc/1/comm') != ['sh']
    script = '(sh -c "sleep 0.1 &" &); sleep 0.5; ps -o stat,comm | grep -c ^Z'
    assert docker('run', '--rm', '--init', 'bb', 'sh', '-c', script).out.strip() == '0'


@pytest.mark.short_vm
def test_init_passes_signals_and_codes(docker, name):
    assert docker('run', '--rm', '--init', 'bb', 'sh', '-c', 'exit 9').code == 9
    docker.ok('run', '-d', '--init', '--name', name, 'bb', 'sh', '-c', 'echo up; exec sleep 100')
    is_up(docker, name)
    docker.ok('kill', '-s', 'TERM', name)
    assert docker.ok('wait', name) == '143'


def test_changes_stay_in_the_container(docker, name):
    docker.ok('run', '--name', name, 'bb', 'sh', '-c', 'echo mine >/etc/mine; rm /etc/not-a-program')
    assert inside(docker, script='ls /etc/mine /etc/not-a-program 2>/dev/null; true') == ['/etc/not-a-program']


@pytest.mark.short_vm
def test_start_again_finds_what_was_written(docker, name):
    docker.ok('run', '--name', name, 'bb', 'sh', '-c', 'echo again >>/count; cat /count')
    docker.ok('start', name)
    docker.ok('wait', name)
    assert docker.ok('logs', name).splitlines() == ['again', 'again', 'again']


def test_start_attached_gives_output_and_code(docker, name):
    docker.ok('create', '--name', name, 'bb', 'sh', '-c', 'echo hello; exit 6')
    result = docker('start', '-a', name)
    assert (result.code, result.out) == (6, 'hello\n')


def test_a_thousand_arguments(docker):
    arguments = ['word%d' % i for i in range(1000)]
    assert docker.ok('run', '--rm', 'bb', 'echo', *arguments).split() == arguments


def test_twenty_at_once(docker):
    many = 4 if docker.vm else 20
    running = [docker.popen('run', '--rm', 'bb', 'sh', '-c', f'echo {i}; exit {i}') for i in range(many)]
    for i, process in enumerate(running):
        out, err = process.communicate(timeout=60 * SLOWER)
        assert (process.returncode, out) == (i, b'%d\n' % i), err


# ---- what is not honoured is refused --------------------------------------------------------------------------------

@pytest.mark.berth
@pytest.mark.parametrize('host_config', [
    {'UsernsMode': 'keep-id'},
    {'Runtime': 'kata'},
    {'DeviceRequests': [{'Driver': 'nvidia', 'Count': 1}]},
    {'StorageOpt': {'inodes': '1G'}},
    {'StorageOpt': {'size': '1M'}},
    {'StorageOpt': {'size': 'large'}},
    {'Isolation': 'hyperv'},
    {'CpusetCpus': '99'},
])
def test_an_option_that_is_not_honoured_is_refused_in_one_line(api, host_config):
    answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': host_config})
    assert answer.status in (400, 501), answer
    assert list(host_config)[0] in answer.message or json.dumps(list(host_config.values())[0])[1:-1] in answer.message
    assert '\n' not in answer.message.strip()
    assert api.get('/containers/json?all=1').json == []


def test_the_hosts_own_files_are_not_there(docker):
    assert inside(docker, script=f'ls -d {os.getcwd()} 2>/dev/null; true') == []


@pytest.mark.container_only('HostConfig.Binds')
def test_a_mount_over_a_file_of_the_engine_wins(docker, tmp_path):
    (tmp_path / 'f').write_text('mine\n')
    assert docker.ok('run', '--rm', '-v', f'{tmp_path}/f:/etc/resolv.conf:ro', 'bb', 'cat', '/etc/resolv.conf') == 'mine'


def test_a_user_may_serve_port_80(docker):
    assert docker.ok('run', '--rm', '-u', '1000', 'bb', 'cat', '/proc/sys/net/ipv4/ip_unprivileged_port_start') == '0'
