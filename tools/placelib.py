"""A place that programs of others run in, so that whatever they leave behind ends with it: mount, PID and cgroup namespaces, below
cgroups that are its own."""
import os
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import checklib as lib  # noqa: E402


def hierarchies():
    """(mount point, file system type, options) of each cgroup hierarchy."""
    with open('/proc/self/mountinfo') as file:
        for line in file:
            left, right = line.split(' - ')
            kind, _, options = right.split()[:3]
            if kind in ('cgroup', 'cgroup2'):
                yield left.split()[4], kind, ','.join(word for word in options.split(',') if word != 'rw')


def write_file(path, text):
    """What the kernel refuses shows in the tests."""
    try:
        with open(path, 'w') as file:
            file.write(text)
    except OSError:
        pass


class OwnCgroups:
    """A cgroup in each hierarchy for everything that is started."""

    def __init__(self):
        self.folders = [os.path.join(point, f'berth-suite-{os.getpid()}') for point, _, _ in hierarchies()]

    def __enter__(self):
        for folder in self.folders:
            os.mkdir(folder)
            for name in ('cpuset.cpus', 'cpuset.mems'):
                if os.path.exists(os.path.join(folder, name)) and os.path.exists(os.path.join(os.path.dirname(folder), name)):
                    with open(os.path.join(os.path.dirname(folder), name)) as file:
                        write_file(os.path.join(folder, name), file.read())
            if os.path.exists(os.path.join(folder, 'cpu.rt_runtime_us')):
                write_file(os.path.join(folder, 'cpu.rt_runtime_us'), '900000')
        return self

    def join(self):
        """The shell's words for moving itself in."""
        return ' && '.join(f'echo 0 >{folder}/cgroup.procs' for folder in self.folders)

    def sweep(self):
        """Thaws and kills what is in there and removes what is empty; whether all is gone."""
        for folder in self.folders:
            thaw(folder)
            for path, _, _ in os.walk(folder, topdown=False):
                try:
                    with open(os.path.join(path, 'cgroup.procs')) as file:
                        for pid in map(int, file.read().split()):
                            os.kill(pid, signal.SIGKILL)
                    os.rmdir(path)
                except OSError:
                    pass
        return not any(os.path.exists(folder) for folder in self.folders)

    def __exit__(self, *_):
        end = time.monotonic() + 20
        while not self.sweep():
            if time.monotonic() > end:
                raise lib.StageFailed('cgroups stay: ' + ' '.join(filter(os.path.exists, self.folders)))
            time.sleep(0.1)


def mount(*words):
    subprocess.run(['mount', *words], check=True)


def put_over(own, name, lowers=()):
    """/usr or /etc with other folders over the host's; what is written goes into a folder of `own`."""
    folders = [os.path.join(own, name + kind) for kind in ('', '.work')]
    for folder in folders:
        os.mkdir(folder)
    mount('-t', 'overlay', '-o', f'lowerdir={":".join([*lowers, "/" + name])},upperdir={folders[0]},workdir={folders[1]}', 'overlay', '/' + name)


def command(cgroups, words, more=()):
    """What runs these words there; `more`: further namespaces, as unshare(1) names them."""
    return ['sh', '-c', f'{cgroups.join()} && exec "$@"', 'place', 'unshare', '--mount', '--pid', '--cgroup', *more, '--fork', '--kill-child',
            '--mount-proc', *words]


def settle(unified):
    """Inside: only our part of the cgroup trees; without `unified` none of v2 beside v1."""
    seen = list(hierarchies())
    subprocess.run(['umount', '--recursive', '--lazy', '/sys/fs/cgroup'], check=True)
    if all(kind == 'cgroup2' for _, kind, _ in seen):
        mount('-t', 'cgroup2', 'cgroup2', '/sys/fs/cgroup')
    else:
        mount('-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', '/sys/fs/cgroup')
        for point, kind, options in seen:
            if kind == 'cgroup2' and not unified:
                continue
            os.makedirs(point)
            mount('-t', kind, '-o', options or 'rw', 'cgroup', point)
    for point, kind, _ in seen:
        if kind == 'cgroup2' and os.path.isdir(point):  # processes in a v2 root would forbid controllers below
            os.mkdir(os.path.join(point, 'suite'))
            with open(os.path.join(point, 'suite/cgroup.procs'), 'w') as file:
                file.write('0')


def thaw(tree):
    for path, _, names in os.walk(tree):
        if 'freezer.state' in names:
            write_file(os.path.join(path, 'freezer.state'), 'THAWED')
        if 'cgroup.freeze' in names:
            write_file(os.path.join(path, 'cgroup.freeze'), '0')
