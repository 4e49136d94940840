"""--no-pivot where nothing else goes: the root is the kernel's first ramdisk, out of which pivot_root does not lead. tools/v2-guest has it."""
import pytest
from test_checkpoint import checkpoint, count_beyond, count_of, criu, good, restore, start_counter  # noqa: F401 (criu is a fixture)


def root_kind():
    with open('/proc/self/mountinfo') as file:
        return [line.split(' - ')[1].split()[0] for line in file if line.split()[4] == '/'][-1]


pytestmark = pytest.mark.skipif(root_kind() != 'rootfs', reason='the root is no ramdisk')


def test_with_pivot_one_line_says_what_fails(bundle):
    done = bundle.args('true').run()
    assert done.returncode == 1 and 'pivot' in done.stderr and len(done.stderr.splitlines()) == 1
    assert bundle.remains() == []


def test_a_container_sees_its_own_root_alone(bundle):
    (bundle.rootfs / 'mark').touch()
    done = bundle.shell('test -e /mark && ! test -e /run-tests && cd / && cd ../../.. && test -e mark && ls /proc/1/root/mark').run('--no-pivot')
    assert done.stderr == ''
    assert (done.returncode, done.stdout) == (0, '/proc/1/root/mark\n')


def test_a_counter_goes_on(bundle):
    start_counter(bundle, '--no-pivot')
    good(checkpoint(bundle))
    number = count_of(bundle)
    good(restore(bundle, '--no-pivot'))
    assert count_beyond(bundle, number) < number + 100
    assert bundle.exec('test', '-e', '/run-tests').returncode == 1
