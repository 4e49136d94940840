"""What a process has besides ids and limits: scheduler, priorities, personality, CPUs, and its filter of system calls."""
import ctypes
import errno
import fcntl
import json
import os
import socket
import struct
import subprocess
import time

import pytest

from conftest import RUNTIME


@pytest.mark.berth
def test_personality(bundle):
    bundle.linux['personality'] = {'domain': 'LINUX32'}
    assert bundle.output('cat /proc/self/personality; uname -m').split() == ['00000008', 'i686']
    bundle.linux['personality'] = {'domain': 'LINUX'}
    assert bundle.output('cat /proc/self/personality') == '00000000'


@pytest.mark.berth  # runc since 1.2
def test_exec_has_the_personality(bundle):
    bundle.linux['personality'] = {'domain': 'LINUX32'}
    bundle.up()
    assert bundle.exec('sh', '-c', 'cat /proc/self/personality; uname -m').stdout.split() == ['00000008', 'i686']


@pytest.mark.berth  # runc since 1.2
def test_the_callers_cpus_are_not_the_containers(bundle):
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip('one processor')
    bound = lambda: os.sched_setaffinity(0, cpus[:1])  # noqa: E731
    bundle.args('grep', 'Cpus_allowed_list', '/proc/self/status')
    assert bundle.run(preexec_fn=bound).stdout.split()[1] != str(cpus[0])
    bundle.up()
    assert bundle.exec('grep', 'Cpus_allowed_list', '/proc/self/status', preexec_fn=bound).stdout.split()[1] != str(cpus[0])
    assert os.sched_getaffinity(bundle.state()['pid']) >= set(cpus)


@pytest.mark.berth
@pytest.mark.parametrize('policy,number', [('SCHED_OTHER', 0), ('SCHED_BATCH', 3), ('SCHED_IDLE', 5)])
def test_scheduler_policies(bundle, policy, number):
    bundle.process['scheduler'] = {'policy': policy, 'nice': 3, 'flags': ['SCHED_FLAG_RESET_ON_FORK']}
    assert bundle.output('cut -d" " -f41 /proc/1/stat') == str(number)


@pytest.mark.berth
@pytest.mark.parametrize('policy,number', [('SCHED_FIFO', 1), ('SCHED_RR', 2)])
def test_real_time_schedulers(bundle, policy, number):
    """A v1 cpu group without real-time budget refuses them, in one line."""
    bundle.process['scheduler'] = {'policy': policy, 'priority': 10}
    bundle.args('busybox', 'cut', '-d', ' ', '-f40,41', '/proc/self/stat')
    done = bundle.run()
    if os.path.exists('/sys/fs/cgroup/cpu/cpu.rt_runtime_us'):
        assert done.returncode == 1 and 'error setting scheduler: sched_setattr: operation not permitted' in done.stderr
        period = {'realtimePeriod': 1000000, 'realtimeRuntime': 10000}
        bundle.linux['resources'].setdefault('cpu', {}).update(period)
        done = bundle.run()
    assert (done.returncode, done.stdout.strip()) == (0, f'10 {number}'), done.stderr


@pytest.mark.berth
@pytest.mark.parametrize('kind,number,priority', [('IOPRIO_CLASS_BE', 2, 5), ('IOPRIO_CLASS_RT', 1, 3), ('IOPRIO_CLASS_IDLE', 3, 0)])
def test_io_priorities(bundle, kind, number, priority):
    bundle.process['ioPriority'] = {'class': kind, 'priority': priority}
    bundle.up()
    ioprio_get = 252
    value = ctypes.CDLL(None).syscall(ioprio_get, 1, bundle.state()['pid'])
    assert (value >> 13, value & 7) == (number, priority)


@pytest.mark.berth
def test_exec_affinity(bundle):
    """The first list is for entering, the last is what the process keeps."""
    cpus = sorted(os.sched_getaffinity(0))
    bundle.process['execCPUAffinity'] = {'initial': str(cpus[0]), 'final': str(cpus[-1])}
    bundle.up()
    assert f'Cpus_allowed_list:\t{cpus[-1]}\n' in bundle.exec('cat', '/proc/self/status').stdout
    assert os.sched_getaffinity(bundle.state()['pid']) == set(cpus)


@pytest.mark.berth
def test_scheduler_and_io_priority(bundle):
    bundle.process['scheduler'] = {'policy': 'SCHED_BATCH', 'nice': 5}
    bundle.process['ioPriority'] = {'class': 'IOPRIO_CLASS_IDLE', 'priority': 0}
    out = bundle.output('cut -d" " -f19,41 /proc/self/stat')
    assert out == '5 3'


# ---- seccomp --------------------------------------------------------------------------------------------------------

def test_seccomp(bundle):
    bundle.linux['seccomp'] = {'defaultAction': 'SCMP_ACT_ALLOW', 'architectures': ['SCMP_ARCH_X86_64'],
                               'syscalls': [{'names': ['mkdir', 'mkdirat'], 'action': 'SCMP_ACT_ERRNO', 'errnoRet': 30}]}
    assert 'Read-only file system' in bundle.output('mkdir /x 2>&1 || true; grep Seccomp: /proc/self/status')
    bundle.up()
    assert 'Read-only file system' in bundle.exec('mkdir', '/x').stderr


@pytest.mark.parametrize('action,code,said', [
    ('SCMP_ACT_ALLOW', 0, ''), ('SCMP_ACT_LOG', 0, ''), ('SCMP_ACT_ERRNO', 1, 'Operation not permitted'),
    ('SCMP_ACT_TRACE', 1, 'Function not implemented'), ('SCMP_ACT_TRAP', 159, ''), ('SCMP_ACT_KILL', 159, ''),
    ('SCMP_ACT_KILL_THREAD', 159, ''), ('SCMP_ACT_KILL_PROCESS', 159, ''),
])
def test_seccomp_actions(bundle, action, code, said):
    bundle.linux['seccomp'] = {'defaultAction': 'SCMP_ACT_ALLOW', 'architectures': ['SCMP_ARCH_X86_64'],
                               'syscalls': [{'names': ['mkdir'], 'action': action}]}
    done = bundle.args('mkdir', '/x').run()
    assert done.returncode == code and said in done.stderr, done.stderr
    assert (bundle.rootfs / 'x').exists() == (code == 0)


def test_seccomp_arguments(bundle):
    """Only the kill of process 1 with signal 0 is refused."""
    arguments = [{'index': 0, 'value': 1, 'op': 'SCMP_CMP_EQ'}, {'index': 1, 'value': 0, 'op': 'SCMP_CMP_EQ'}]
    bundle.linux['seccomp'] = {'defaultAction': 'SCMP_ACT_ALLOW', 'architectures': ['SCMP_ARCH_X86_64'],
                               'syscalls': [{'names': ['kill'], 'action': 'SCMP_ACT_ERRNO', 'errnoRet': 30, 'args': arguments}]}
    out = bundle.output('sleep 100 & kill -0 $! && echo other; kill -0 1 2>&1; kill $!')
    assert out.splitlines()[0] == 'other' and 'Read-only file system' in out


def receive_listener(server):
    server.settimeout(10)
    connection, _ = server.accept()
    with connection:
        text, descriptors, _, _ = socket.recv_fds(connection, 65536, 4)
    return json.loads(text), descriptors


def test_seccomp_listener(bundle):
    """The agent gets the filter's descriptor with the state, and what it answers is what the call returns."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(bundle.path / 'agent'))
        server.listen()
        bundle.linux['seccomp'] = {'defaultAction': 'SCMP_ACT_ALLOW', 'architectures': ['SCMP_ARCH_X86_64'],
                                   'listenerPath': str(bundle.path / 'agent'), 'listenerMetadata': 'some words',
                                   'syscalls': [{'names': ['mkdir'], 'action': 'SCMP_ACT_NOTIFY'}]}
        bundle.shell('mkdir /x 2>/err; sleep 1000').save()
        making = subprocess.Popen([RUNTIME, '--root', str(bundle.root), 'run', '-d', '-b', str(bundle.path / 'bundle'), bundle.id],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        state, descriptors = receive_listener(server)
        assert making.wait(10) == 0
    assert state['fds'] == ['seccompFd'] and state['metadata'] == 'some words' and len(descriptors) == 1
    assert state['state']['id'] == bundle.id and state['state']['status'] == 'creating' and state['pid'] == bundle.state()['pid']
    request = bytearray(80)
    fcntl.ioctl(descriptors[0], 0xc0502100, request)
    cookie, caller, _, number = struct.unpack_from('=QIIi', request)
    assert number == 83
    fcntl.ioctl(descriptors[0], 0xc0182101, struct.pack('=QqiI', cookie, 0, -errno.EXDEV, 0))
    os.close(descriptors[0])
    end = time.monotonic() + 5
    while 'ross-device' not in (bundle.rootfs / 'err').read_text():
        assert time.monotonic() < end
        time.sleep(0.02)
