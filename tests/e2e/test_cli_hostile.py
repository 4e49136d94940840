"""berth at daemons that lie, stall and talk too much, and at readers who leave. The daemons are made up."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

import engines
import isolation
from made_up_daemon import MadeUpDaemon
from terminal import Terminal

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
import certificates  # noqa: E402

DOCKER = shutil.which('docker')
BERTH = os.environ.get('BERTH_CLI', os.path.join(engines.BIN, 'berth'))
pytestmark = [pytest.mark.berth, pytest.mark.skipif(isolation.VM, reason='no container runs in these tests')]


@pytest.fixture
def daemon(tmp_path):
    made_up = MadeUpDaemon(str(tmp_path / 'made-up.sock'))
    yield made_up
    made_up.close()


def command(daemon, *arguments):
    return [BERTH, '--config', '/proc/none', '-H', daemon.host, *arguments]


def berth(daemon, *arguments, **options):
    return subprocess.run(command(daemon, *arguments), capture_output=True, timeout=20, **options)


# ---- two directions at once -----------------------------------------------------------------------------------------

MUCH = 12 << 20


def talk_first(request):
    """As a process does that writes more than it reads: nothing is taken before all is given."""
    request.hijack()
    for _ in range(MUCH >> 20):
        request.say(b'\1\0\0\0\0\x10\0\0' + bytes(1 << 20))
    request.read(b'the end')


@pytest.mark.parametrize('tls', [False, True])
def test_input_never_keeps_output_back(daemon, tls, tmp_path):
    flags = []
    if tls:
        folder = str(tmp_path)
        certificates.authority(folder)
        certificates.certificate(folder, 'server')
        daemon = MadeUpDaemon(certificates=(f'{folder}/server.crt', f'{folder}/server.key'))
        flags = ['--tlsverify', '--tlscacert', f'{folder}/ca.crt', '--tlscert', f'{folder}/none', '--tlskey', f'{folder}/none']
    daemon.on('GET /containers/', {'Id': 'c'}).on('POST /containers/c/exec', {'Id': 'e'}).on('GET /exec/', {'ExitCode': 3})
    daemon.on('POST /exec/e/start', talk_first)
    done = berth(daemon, *flags, 'exec', '-i', 'c', 'cat', input=bytes(MUCH) + b'the end')
    assert (done.returncode, len(done.stdout), done.stderr) == (3, MUCH, b'')


def test_progress_is_read_while_a_file_is_sent(daemon, tmp_path):
    big = tmp_path / 'big.tar'
    big.write_bytes(bytes(8 << 20))

    def load(request):
        request.stream()
        for _ in range(20000):
            request.say(b'{"status":"Loading layer","id":"a","progressDetail":{"current":1,"total":2}}\n')
        size = len(request.read(b'\r\n0\r\n\r\n'))
        request.say(b'{"stream":"%d\\n"}' % (size >> 20))
    daemon.on('POST /images/load', load)
    done = berth(daemon, 'load', '-i', str(big))
    assert (done.returncode, done.stdout, done.stderr) == (0, b'8\n', b'')


@pytest.mark.parametrize('verb', [['load', '-i'], ['import']])
def test_a_file_that_cannot_be_read_is_an_error(daemon, verb, tmp_path):
    daemon.on('POST /images/', lambda request: request.read(b'never'))
    done = berth(daemon, *verb, str(tmp_path))
    assert done.returncode == 1 and b'is a directory' in done.stderr.lower()


def test_an_answer_before_the_body_is_sent_is_the_answer(daemon):
    daemon.on('PUT /containers/c/archive', lambda request: request.answer({'message': 'no room'}, '507 Insufficient Storage'))
    reader, writer = os.pipe()
    os.write(writer, b'the beginning')
    done = berth(daemon, 'cp', '-', 'c:/', stdin=reader)
    os.close(reader)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b'Error response from daemon: no room\n')


# ---- readers who leave ----------------------------------------------------------------------------------------------

EVENT = {'Type': 'container', 'Action': 'start', 'Actor': {'ID': 'c', 'Attributes': {}}, 'time': 1700000000}


def endless(thing):
    def answer(request):
        request.stream()
        while True:
            request.say(json.dumps(thing).encode() + b'\n')
            time.sleep(0.01)
    return answer


@pytest.mark.parametrize('verb, path, thing', [(['events'], 'GET /events', EVENT), (['stats'], 'GET /containers/json', []),
                                               (['pull', 'a'], 'POST /images/create', {'status': 'Pulling'})])
def test_what_goes_on_for_ever_ends_with_its_reader(daemon, verb, path, thing):
    daemon.on(path, thing if thing == [] else endless(thing))
    process = subprocess.Popen(command(daemon, *verb), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(20) == 128 + signal.SIGPIPE, 'as docker, which the signal ends'
    assert process.stderr.read() == b''


def test_a_full_disk_is_told(daemon):
    daemon.on('GET /containers/json', [])
    with open('/dev/full', 'wb') as full:
        done = subprocess.run(command(daemon, 'ps'), stdout=full, stderr=subprocess.PIPE, timeout=20)
    assert done.returncode == 1 and b'no space left on device' in done.stderr.lower()


def test_stats_of_nothing_do_not_hurry(daemon):
    daemon.on('GET /containers/json', [])
    process = subprocess.Popen(command(daemon, 'stats'), stdout=subprocess.DEVNULL)
    time.sleep(1.2)
    process.kill()
    process.wait()
    assert 1 <= len(daemon.seen) - 1 <= 4, 'one question in half a second'


# ---- wrong answers --------------------------------------------------------------------------------------------------

def test_start_sends_its_checkpoint(daemon):
    daemon.on('POST /containers/c/start', {})
    berth(daemon, 'start', '--checkpoint', 'x', '--checkpoint-dir', '/y', 'c')
    assert daemon.seen[-1] == 'POST /containers/c/start?checkpoint=x&checkpoint-dir=%2Fy'


LARGE = 2 ** 63 - 1
IMAGE = {'Id': 'sha256:' + '1' * 64, 'Created': LARGE, 'RepoTags': [None, 1], 'RepoDigests': [None, {}], 'Size': 1}


@pytest.mark.parametrize('verb, path, answer', [
    (['images', '--digests'], 'GET /images/json', [IMAGE, {**IMAGE, 'RepoTags': None}]),
    (['system', 'df', '-v'], 'GET /system/df', {'Images': [IMAGE], 'Containers': [{}], 'Volumes': [None], 'BuildCache': [[]]}),
    (['history', 'x'], 'GET /images/x/history', [{'Created': LARGE}, {'Created': -LARGE}]),
    (['ps', '-a'], 'GET /containers/json', [{'Created': -LARGE - 1, 'Names': [None, 3], 'Mounts': [None], 'Ports': [None]}]),
    (['info'], 'GET /info', {'SecurityOptions': [None], 'DriverStatus': [None, [1]], 'Labels': [1], 'Runtimes': {'x': None}}),
    (['top', 'c'], 'GET /containers/c/top', {'Titles': [None], 'Processes': [[1], None]}),
    (['__complete', 'rm', ''], 'GET /containers/json', [{'Names': [None, 1]}]),
    (['pull', 'a'], 'POST /images/create', {'status': 'x', 'id': 'y', 'progressDetail': {'current': LARGE, 'total': 1}}),
])
def test_answers_of_other_types_are_survived(daemon, verb, path, answer):
    daemon.on(path, answer)
    on_screen = Terminal(command(daemon, *verb), columns=200)
    assert on_screen.wait() == 0, on_screen.output
    on_screen.close()


def test_the_last_line_of_a_stream_needs_no_end(daemon):
    daemon.on('POST /images/create', lambda request: (request.stream(), request.say(
        json.dumps({'status': 'a' * 16380}).encode() + b'\n' + json.dumps({'status': 'the last'}).encode())))
    done = berth(daemon, 'pull', 'x')
    assert done.returncode == 0 and b'the last\n' in done.stdout


@pytest.mark.parametrize('verb', [['ps'], ['images'], ['network', 'ls'], ['search', 'x'], ['history', 'x']])
def test_an_answer_that_is_no_list_is_an_error(daemon, verb):
    daemon.on('GET ', {'message': 'none'})
    done = berth(daemon, *verb)
    assert (done.returncode, done.stderr) == (1, b"the daemon's answer is no list\n")


def test_a_connection_that_was_closed_meanwhile_is_not_used_again(daemon):
    def start(request):
        request.hijack()
        time.sleep(0.3)

    def resize(request):
        request.answer({})
        request.over = True
    daemon.on('GET /containers/', {'Id': 'c'}).on('POST /containers/c/exec', {'Id': 'e'}).on('GET /exec/', {'ExitCode': 3})
    daemon.on('POST /exec/e/start', start).on('POST /exec/e/resize', resize)
    screen = Terminal(command(daemon, 'exec', '-t', 'c', 'sh'))
    assert screen.wait() == 3, screen.output
    screen.close()


# ---- the same requests as docker's ----------------------------------------------------------------------------------

@pytest.mark.parametrize('line', [
    'save --platform linux/amd64 -o {out} x', 'load --platform linux/arm64/v8 -i {empty}', 'history --platform arm64 x',
    'image inspect --platform linux/aarch64 x', 'rmi --platform linux/amd64,linux/arm64 x', 'import --platform linux/arm64 {empty} x',
    'pull --platform linux/arm64 x'])
@pytest.mark.skipif(not DOCKER, reason='no docker of today is on this machine')
def test_platforms(daemon, line, tmp_path):
    (tmp_path / 'empty').touch()
    daemon.on('', lambda request: (request.read(b'0\r\n\r\n') if request.path.startswith(('/images/load', '/images/create?fromSrc')) else None,
                                   request.answer([] if 'x/history' in request.path or request.method == 'DELETE' else {})))
    daemon.on('(HEAD|GET) /_ping', lambda request: request.answer(b'', headers='Api-Version: 1.50\r\n'))
    words = [word.format(out=tmp_path / 'out', empty=tmp_path / 'empty') for word in line.split()]
    asked = []
    for program in (DOCKER, BERTH):
        daemon.seen.clear()
        subprocess.run([program, '--config', '/proc/none', '-H', daemon.host, *words], capture_output=True, timeout=20)
        asked.append([re.sub(r'\?(.*)', lambda match: '?' + '&'.join(sorted(match.group(1).split('&'))), one)
                      for one in daemon.seen if '_ping' not in one])
    assert asked[0] == asked[1] and len(asked[1]) == 1


def test_a_platform_that_an_old_daemon_would_pass_over(daemon):
    daemon.on('HEAD /_ping', lambda request: request.answer(b'', headers='Api-Version: 1.47\r\n'))
    done = berth(daemon, 'save', '--platform', 'linux/amd64', 'x')
    assert done.stderr == b'"--platform" requires API version 1.48, but the Docker daemon API version is 1.47\n'
    done = berth(daemon, 'history', '--platform', 'a/b/c/d', 'x')
    assert done.returncode == 1 and b'invalid platform: "a/b/c/d"' in done.stderr


def test_what_is_in_the_configuration_stays(daemon, tmp_path):
    """Blanks in its texts, and that it is a link."""
    there = tmp_path / 'dotfiles.json'
    there.write_text(json.dumps({'HttpHeaders': {'X': 'a' + 12 * ' ' + 'b'}, 'auths': {}}))
    (tmp_path / 'config.json').symlink_to(there)
    daemon.on('POST /auth', {'Status': 'Login Succeeded'})
    done = subprocess.run([BERTH, '--config', str(tmp_path), '-H', daemon.host, 'login', '-u', 'a', '-p', 'b', 'registry:5'], capture_output=True, timeout=20)
    assert done.returncode == 0, done
    assert (tmp_path / 'config.json').is_symlink()
    assert json.loads(there.read_text()) == {'HttpHeaders': {'X': 'a' + 12 * ' ' + 'b'}, 'auths': {'registry:5': {'auth': 'YTpi'}}}
    assert there.read_text().startswith('{\n\t"HttpHeaders": {\n\t\t"X"')


@pytest.mark.skipif(not DOCKER, reason='no docker of today is on this machine')
@pytest.mark.parametrize('flags', [
    '--subnet 10.1.0.0/16 --subnet 10.2.0.0/16 --gateway 10.2.0.1 --gateway 10.1.0.1 --ip-range 10.2.3.0/24',
    '--subnet 10.1.0.0/16 --subnet fd00::/64 --gateway fd00::1 --aux-address a=fd00::5 --aux-address b=10.1.5.5',
    '--subnet 10.1.0.0/16 --gateway 10.3.0.1', '--gateway 10.3.0.1', '--aux-address a=10.3.0.1', '--subnet 10.1.0.0/16 --subnet 10.1.2.0/24',
    '--subnet 10.1.0.0/16 --subnet 10.3.2.0/24 --gateway 10.1.0.1 --gateway 10.1.0.2', '--subnet x', '--subnet 10.1.0.0/16 --subnet 10.3.0.0/33',
    '--subnet 10.1.0.0/16 --subnet 10.3.2.0/24 --ip-range 10.1.4.0/24 --ip-range 10.1.5.0/24', '--subnet 10.1.0.0/16 --ip-range 10.2.0.0/24'])
def test_subnets(daemon, flags):
    daemon.on('POST /networks/create', {'Id': 'x'})
    told = []
    for program in (DOCKER, BERTH):
        daemon.bodies.clear()
        done = subprocess.run([program, '--config', '/proc/none', '-H', daemon.host, 'network', 'create', *flags.split(), 'n'], capture_output=True, timeout=20)
        ipam = [json.loads(body)['IPAM'] for body in daemon.bodies if body]
        told.append((done.returncode, done.stderr, [sorted(json.dumps(one, sort_keys=True) for one in each['Config']) for each in ipam]))
    assert told[0] == told[1]


@pytest.mark.skipif(not DOCKER, reason='no docker of today is on this machine')
@pytest.mark.parametrize('gpus', ['all', '2', 'device=0', '"device=0,1"', '"device=0,1",driver=x', 'count=1,"capabilities=compute,utility"'])
def test_gpus(daemon, gpus):
    daemon.on('POST /containers/create', {'Id': 'x'})
    asked = []
    for program in (DOCKER, BERTH):
        daemon.bodies.clear()
        subprocess.run([program, '--config', '/proc/none', '-H', daemon.host, 'create', '--gpus', gpus, 'x'], capture_output=True, timeout=20)
        requests = json.loads(daemon.bodies[-1])['HostConfig']['DeviceRequests'][0]
        asked.append({**{key: value for key, value in requests.items() if value}, 'Capabilities': sorted(requests['Capabilities'][0])})
    assert asked[0] == asked[1]


def test_a_long_filter_is_sent_whole(daemon):
    daemon.on('GET /containers/json', [])
    berth(daemon, 'ps', '-f', 'name=' + 'a' * 5000)
    assert 'a' * 5000 in daemon.seen[-1]
