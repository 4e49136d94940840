"""`docker run --isolation vm` on a real KVM: the berthd of build/bin with its state on a tmpfs, the real client, and behind the
shim berth-vmm. The first-level guest is a host of cgroup2 alone."""
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

import machines as m

sys.path.insert(0, os.path.join(m.ROOT, 'tests/e2e'))
import engines  # noqa: E402
import images  # noqa: E402

IMAGE = 'bb:latest'
CLIENT_SECONDS = 120  # for one call of the client
TESTS = []


def test(function):
    """A failed test takes its containers along: the next one looks for what is left."""
    @functools.wraps(function)
    def alone():
        try:
            function()
        except Exception:
            if house.cache_info().currsize:
                house()('rm', '-f', *house().ok('ps', '-aq').split())
            raise
    TESTS.append(alone)
    return alone


def expect(what, found, wanted):
    if found != wanted:
        raise m.Wrong(f'{what}: {found!r}, not {wanted!r}')


class Docker:
    def __init__(self, engine):
        self.engine, self.cli = engine, engines.default_cli()

    def __call__(self, *words, seconds=CLIENT_SECONDS, **options):
        command = ['timeout', '-s', 'KILL', str(seconds), self.cli, '-H', 'unix://' + self.engine.socket, *words]
        source = {} if 'input' in options else {'stdin': subprocess.DEVNULL}
        return subprocess.run(command, capture_output=True, **source, **options)

    def ok(self, *words, **options):
        done = self(*words, **options)
        if done.returncode:
            raise m.Wrong(f'docker {" ".join(words)}: exit code {done.returncode}: {done.stderr.decode().strip()}')
        return done.stdout.decode().rstrip('\n')

    def run(self, *words):
        return self.ok('run', '--isolation', 'vm', *words)

    def inspect(self, name):
        return json.loads(self.ok('inspect', name))[0]

    def wait_for_state(self, name, status):
        m.settle(lambda: self.inspect(name)['State']['Status'] == status, f'{name} is not {status}', 60)
        return self.inspect(name)['State']

    def nothing_left(self):
        left = engines.settle(self.engine.footprint_of_containers, 20)
        expect('left on the host', left, [])


# ---- what a test finds: one engine for all of them ------------------------------------------------------------------


@functools.cache
def house():
    """Up from the first test that asks; a daemon that does not start is every test's failure, in its own words."""
    docker = Docker(engines.Berth().start())
    docker.ok('load', input=images.docker_archive(IMAGE, [images.busybox_root()])[0])
    return docker


def machine_pids(name):
    """The VMM's watcher and the process that runs the guest."""
    docker = house()
    path = f'/sys/fs/cgroup/berth-{docker.engine.id}/{docker.inspect(name)["Id"]}/cgroup.procs'
    return sorted(int(word) for word in engines.read(path).split())


def shim_pid(name):
    identity = house().inspect(name)['Id']
    return next(int(line.split()[1]) for line in house().engine.processes() if 'shim' in line and identity in line)


# ---- the tests ------------------------------------------------------------------------------------------------------


@test
def the_engine_starts_on_a_host_of_cgroup2():
    docker = house()
    expect('info', docker.ok('info', '--format', '{{.CgroupVersion}}'), '2')
    expect('warnings', docker.ok('info', '--format', '{{json .Warnings}}'), 'null')
    expect('container', docker.ok('run', '--rm', '--memory', '64m', '--cpus', '0.5', IMAGE, 'uname', '-r'), os.uname().release)
    docker.nothing_left()


@test
def info_says_kvm():
    profile = re.search(r'name=isolation-vm,profile=(\w+)', house().ok('info', '--format', '{{json .SecurityOptions}}'))
    expect('isolation-vm', profile and profile[1], 'kvm')


@test
def another_kernel_and_exit_codes():
    docker = house()
    print('# ' + docker.run('--rm', IMAGE, 'uname', '-a'), flush=True)
    done = docker('run', '--rm', '--isolation', 'vm', IMAGE, 'sh', '-c', 'echo out; echo err >&2; exit 42')
    expect('run', (done.returncode, done.stdout, done.stderr), (42, b'out\n', b'err\n'))
    done = docker('run', '--rm', '-i', '--isolation', 'vm', IMAGE, 'wc', '-c', input=b'x' * 300000)
    expect('run -i', (done.returncode, done.stdout.strip()), (0, b'300000'))
    done = docker('run', '--rm', '--isolation', 'vm', IMAGE, 'no-such-program')
    expect('no such program', done.returncode, 127)
    docker.nothing_left()


@test
def a_machine_in_the_background():
    docker = house()
    docker.run('-d', '--name', 'web', '-p', '8080:80', '--memory', '100m', IMAGE, 'sh', '-c',
               'trap "echo bye; exit 7" TERM; httpd -p 80 -h /var/www; echo up; while :; do sleep 0.1; done')
    it = docker.inspect('web')
    expect('inspect', [it['HostConfig']['Isolation'], it['Machine']['Accel'], it['Machine']['VCPUs'], it['Machine']['Memory']],
           ['vm', 'kvm', 1, 196 << 20])
    expect('kernel', docker.ok('exec', 'web', 'uname', '-r'), it['Machine']['Kernel'])
    users = {re.search(r'Uid:\t(\d+)', engines.read(f'/proc/{pid}/status'))[1] for pid in machine_pids('web')}
    if len(users) != 2 or '0' not in users:
        raise m.Wrong(f'watcher and machine run as {users}')
    m.settle(lambda: docker.ok('logs', 'web') == 'up', 'no log')
    done = docker('exec', '-i', 'web', 'sh', '-c', 'cat; exit 3', input=b'to the guest and back')
    expect('exec -i', (done.returncode, done.stdout), (3, b'to the guest and back'))
    for _ in range(2):
        with urllib.request.urlopen('http://127.0.0.1:8080/', timeout=60) as page:
            expect('published port', page.read(), b'hello from the image\n')
    address = it['NetworkSettings']['Networks']['bridge']['IPAddress']
    with urllib.request.urlopen(f'http://{address}/', timeout=60) as page:
        expect('by its address', page.read(), b'hello from the image\n')


@test
def pause_and_unpause():
    docker = house()
    docker.ok('pause', 'web')
    expect('state', docker.inspect('web')['State']['Status'], 'paused')
    spent = [sum(map(int, engines.read(f'/proc/{pid}/stat').rsplit(')', 1)[1].split()[11:13])) for pid in machine_pids('web')]
    time.sleep(2)
    again = [sum(map(int, engines.read(f'/proc/{pid}/stat').rsplit(')', 1)[1].split()[11:13])) for pid in machine_pids('web')]
    expect('CPU time of a frozen machine', again, spent)
    docker.ok('unpause', 'web')
    expect('exec', docker.ok('exec', 'web', 'echo', 'awake'), 'awake')


@test
def a_new_daemon_adopts_it():
    docker = house()
    before = docker.inspect('web')
    docker.engine.kill9()
    docker.engine.start()
    after = docker.inspect('web')
    expect('state', after['State'], before['State'])
    expect('machine', after['Machine']['Kernel'], before['Machine']['Kernel'])
    expect('exec', docker.ok('exec', 'web', 'echo', 'alive'), 'alive')


@test
def stop_and_start_again():
    docker = house()
    docker.ok('exec', 'web', 'sh', '-c', 'echo kept >/kept')
    docker.ok('stop', '-t', '30', 'web')
    expect('exit code', docker.inspect('web')['State']['ExitCode'], 7)
    expect('log', docker.ok('logs', 'web').split(), ['up', 'bye'])
    docker.ok('start', 'web')
    expect('its own disk', docker.ok('exec', 'web', 'cat', '/kept'), 'kept')
    docker.ok('rm', '-f', 'web')
    docker.nothing_left()


@test
def privileged_and_limits():
    docker = house()
    docker.run('-d', '--name', 'limited', '--memory', '64m', '--cpus', '0.5', '--privileged', IMAGE, 'sleep', '1000')
    said = docker.ok('exec', 'limited', 'sh', '-c',
                     'mkdir /m; mount -t tmpfs x /m && echo mounted; sed -n "s/Seccomp:.//p" /proc/self/status')
    expect('guest', said.split(), ['mounted', '0'])
    expect('limit inside', docker.ok('exec', 'limited', 'cat', '/sys/fs/cgroup/memory.max'), str(64 << 20))
    folder = f'/sys/fs/cgroup/berth-{docker.engine.id}/{docker.inspect("limited")["Id"]}'
    limits = [engines.read(f'{folder}/{file}').strip() for file in ('memory.max', 'cpu.max', 'pids.max')]
    expect('limits outside', limits, [str((64 + 96 + 128) << 20), '50000 100000', '256'])
    docker.ok('rm', '-f', 'limited')
    docker.nothing_left()


def dies(victim, *says):
    docker = house()
    docker.run('-d', '--name', 'victim', IMAGE, 'sh', '-c', 'seq 500; sleep 1000')
    m.settle(lambda: docker.ok('logs', '--tail', '1', 'victim') == '500', 'no log', 60)
    os.kill(victim(), signal.SIGKILL)
    state = docker.wait_for_state('victim', 'exited')
    expect('exit code', state['ExitCode'], 137)
    if says:
        expect('reason', [one if one in state['Error'] else state['Error'] for one in says], list(says))
    expect('log', docker.ok('logs', 'victim').split(), [str(i) for i in range(1, 501)])
    expect('processes', [one for one in docker.engine.processes() if docker.inspect('victim')['Id'] in one], [])
    docker.ok('rm', 'victim')
    docker.nothing_left()


@test
def a_killed_watcher():
    dies(lambda: machine_pids('victim')[0], 'the machine has ended: its VMM was killed by signal 9')


@test
def a_killed_machine():
    dies(lambda: machine_pids('victim')[1], 'the machine has ended: ')


@test
def a_killed_shim():
    dies(lambda: shim_pid('victim'))


@test
def stop_all_leaves_nothing():
    engine = house().engine
    done = engine.stop_all()
    expect('--stop-all', (done.returncode, done.stderr if done.returncode else ''), (0, ''))
    expect('left on the host', engine.footprint(), [])
