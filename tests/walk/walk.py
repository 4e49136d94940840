"""The same command lines against berthd and a real dockerd, side by side: what is answered differently is printed.

    tests/walk/walk.py [-v] [WORD...]     the scenes whose names have one of the words (root, in a network namespace: tools/walk)

A scene is a piece of a file in scenes/: `== NAME` and lines for the shell. `docker` is the client with that engine's socket, `api METHOD PATH
[BODY]` a request by hand (the body of the answer, then its status). Each line's exit code, output and errors are compared; documents
field by field. `! LINE` only prepares, `@ OPTIONS` creates a container with these options, shows it, starts it, shows it again and
removes it. Between scenes containers, networks, volumes and images go. What changes by nature (ids, times, addresses of interfaces,
the folder) is made equal first; differences that are meant stand in differences.txt.
"""
import concurrent.futures
import difflib
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, '../e2e'))
import engines  # noqa: E402
import images  # noqa: E402

PEER = os.path.join(engines.PEERS, 'dockerd-sid')
PRELUDE = '''
api() { /usr/bin/python3 "$WALK/api.py" "$@"; }
'''
SHOWN = '''! docker rm -f c1
docker create --name c1 {0} bb sleep 100
docker inspect c1
docker start c1
docker inspect c1
! docker rm -fv c1
'''

# Equal before they are compared: what no two runs have in common.
EQUAL = [(re.compile(pattern, flags), to) for pattern, to, flags in [
    (r'\b[0-9a-f]{64}\b', '<id>', 0), (r'\b(?=[0-9a-f]*[0-9])[0-9a-f]{12}\b', '<id>', 0), (r'sha256:<id>', '<id>', 0),
    (r'\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?(Z|[+-]\d\d:?\d\d)( UTC)?)?', '<time>', 0),
    (r'\b(About |Less than )?(an?|\d+) (second|minute|hour)s?\b', '<span>', 0), (r'\b02:42(:[0-9a-f]{2}){4}|\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b', '<mac>', 0),
    (r'/tmp/(e2e|walk)-[a-z0-9_]+', '<dir>', 0),
]]
VOLATILE = {'Pid', 'SandboxKey', 'Created', 'CreatedAt', 'timeNano', 'time'}


def equal(text):
    for pattern, to in EQUAL:
        text = pattern.sub(to, text)
    return text


class Reference(engines.Dockerd):
    """With what Berth has by default."""

    def command(self):
        return ['unshare', '--net', 'sh', '-c', 'ip link set lo up; exec "$@"', 'sh', *super().command(), '--default-cgroupns-mode', 'private']

    def namespace_pids(self):
        return []


class Side:
    """One of the two engines, and a folder that its command lines run in."""

    def __init__(self, engine, archive):
        self.engine = engine
        self.folder = tempfile.mkdtemp(prefix='walk-', dir='/tmp')
        self.archive = archive
        os.makedirs(self.folder + '/home')

    def run(self, line, seconds=30):
        environment = {'HOME': self.folder + '/home', 'PATH': os.environ['PATH'], 'LANG': 'C.UTF-8', 'TERM': 'xterm', 'WALK': HERE,
                       'DOCKER_HOST': 'unix://' + self.engine.socket, 'SOCKET': self.engine.socket, 'DOCKER_BUILDKIT': '0'}
        # Into files: what a line leaves behind may hold a pipe for ever.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
            process = subprocess.Popen(['sh', '-c', PRELUDE + line], stdin=subprocess.DEVNULL, stdout=out, stderr=error, env=environment,
                                       cwd=self.folder, start_new_session=True)
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = 'too long'
            texts = []
            for file in (out, error):
                file.seek(0)
                texts.append(file.read().decode(errors='replace'))
        return code, *texts

    def scene(self, lines):
        for leftover in os.listdir(self.folder):
            if leftover != 'home':
                shutil.rmtree(os.path.join(self.folder, leftover), ignore_errors=True)
                if os.path.exists(os.path.join(self.folder, leftover)):
                    os.unlink(os.path.join(self.folder, leftover))
        self.clean()
        return [self.run(line.removeprefix('! '), 150 if line.startswith('! ') else 30) for line in lines]

    def clean(self):
        self.run('docker rm -fv $(docker ps -aq); docker network rm $(docker network ls -q -f type=custom); docker volume rm -f $(docker volume ls -q)')
        self.run('docker rmi -f $(docker images -aq)')
        done = subprocess.run(['docker', '-H', 'unix://' + self.engine.socket, 'load', '-q'], input=self.archive, capture_output=True)
        assert done.returncode == 0, done

    def end(self):
        self.run('docker rm -fv $(docker ps -aq)')
        self.engine.stop_all()
        self.engine.remove_folder()
        shutil.rmtree(self.folder, ignore_errors=True)


def scenes():
    """[(name, lines)], in the order of the files."""
    found = []
    for path in sorted(glob.glob(HERE + '/scenes/*.txt')):
        for line in open(path):
            line = line.rstrip('\n')
            if line.startswith('== '):
                found.append((line[3:], []))
            elif line.startswith('@'):
                found[-1][1].extend(SHOWN.format(line[1:].strip()).splitlines())
            elif line and not line.startswith('#'):
                found[-1][1].append(line)
    return found


def differences_known():
    """[(words of the command line, words of the difference)], both regular expressions."""
    rows = []
    for line in open(HERE + '/differences.txt'):
        if line.strip() and not line.startswith('#'):
            rows.append([re.compile(cell.strip()) for cell in line.rstrip('\n').split(' || ')[:2]])
    return rows


def document(text):
    """The documents of a text, one or one a line; None where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        lines = [json.loads(line) for line in text.splitlines()]
        return lines if any(isinstance(line, (dict, list)) for line in lines) else None
    except ValueError:
        return None


def compare(theirs, ours, path=''):
    """Yields 'path: theirs -> ours' for each leaf that is different."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted({*theirs, *ours}):
            if key in VOLATILE and bool(theirs.get(key)) == bool(ours.get(key)):
                continue
            missing = '<no such field>'
            yield from compare(theirs.get(key, missing), ours.get(key, missing), f'{path}.{key}')
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        if path.endswith('.Mounts'):  # a map of Docker's: in no order
            theirs, ours = (sorted(mounts, key=lambda mount: mount.get('Destination', '')) for mounts in (theirs, ours))
        for index, (one, other) in enumerate(zip(theirs, ours)):
            yield from compare(one, other, f'{path}[{index}]')
    else:
        one, other = equal(json.dumps(theirs)), equal(json.dumps(ours))
        if one != other:
            yield f'{path}: {one} -> {other}'


def compare_texts(theirs, ours):
    one, other = document(theirs), document(ours)
    if isinstance(one, (dict, list)) and isinstance(other, (dict, list)):
        return list(compare(one, other))
    return [line for line in difflib.unified_diff(equal(theirs).splitlines(), equal(ours).splitlines(), lineterm='', n=0)
            if not line.startswith(('---', '+++', '@@'))]


def compare_results(theirs, ours):
    found = [f'exit {theirs[0]} -> {ours[0]}'] if theirs[0] != ours[0] else []
    return found + compare_texts(theirs[1], ours[1]) + compare_texts(theirs[2], ours[2])


def walk(sides, words, verbose):
    known = differences_known()
    met = counted = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, lines in scenes():
            if words and not any(word in name for word in words):
                continue
            theirs, ours = pool.map(lambda side: side.scene(lines), sides)
            print(f'== {name}', flush=True)
            for line, one, other in zip(lines, theirs, ours):
                counted += 1
                if line.startswith('! '):
                    continue
                found = [what for what in compare_results(one, other)
                         if not any(where.search(line) and text.search(what) for where, text in known)]
                if found or verbose:
                    met += bool(found)
                    print('\n'.join(['  ' + line, *(f'      {what[:600]}' for what in found)]), flush=True)
                if verbose:
                    print('\n'.join(f'      | {text}' for text in (other[1] + other[2]).splitlines()))
    print(f'{counted} lines, {met} with differences')
    return met


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended all the same
    verbose = '-v' in sys.argv
    words = [word for word in sys.argv[1:] if word != '-v']
    archive = images.docker_archive('bb:latest', [images.busybox_root()])[0]
    sides = []
    try:
        for engine in (Reference(root=PEER, own_network=False), engines.Berth()):
            sides.append(Side(engine, archive))
            engine.start()
        return 1 if walk(sides, words, verbose) else 0
    finally:
        for side in sides:
            side.end()


if __name__ == '__main__':
    sys.exit(main())
