"""Images that others were made from: rmi leaves them for their children, and takes them along with the last one."""
import pytest

import images
from images import entry, tar

CONFLICT = 'conflict: unable to delete {} (cannot be forced) - image has dependent child images'


@pytest.fixture
def family(docker):
    """parent:1, and child:1 that was committed on it."""
    archive, parent = images.docker_archive('parent:1', [images.busybox_root(), tar([entry('etc/parent', data=b'parent')])])
    docker.ok('load', input=archive)
    made = []

    def commit(name, number='1', base='parent:1'):
        container = docker.ok('create', base, 'true')
        docker.ok('cp', '-', f'{container}:/etc', input=tar([entry(f'{name}{number}', data=number.encode())]))
        image = docker.ok('commit', container, f'{name}:{number}')
        docker.ok('rm', container)
        made.append(f'{name}:{number}')
        return image
    yield parent, commit
    for name in reversed(made):
        docker('rmi', name)
    docker('rmi', 'parent:1')


def listed(docker, *options):
    return docker.ok('images', '-q', '--no-trunc', *options).split()


def test_a_parent_by_its_id(docker, family):
    parent, commit = family
    child = commit('child')
    for options in ([], ['-f']):
        result = docker('rmi', *options, parent)
        assert result.code == 1 and CONFLICT.format(parent[7:19]) in result.err
    assert docker.inspect('parent:1')['RepoTags'] == ['parent:1']
    assert docker.inspect(child)['Parent'] == parent


def test_a_parent_by_its_name_is_untagged(docker, family):
    """It is left out of lists, serves its child, and goes with it."""
    parent, commit = family
    child = commit('child')
    assert docker.ok('rmi', 'parent:1') == 'Untagged: parent:1'
    assert docker.inspect(parent)['RepoTags'] == []
    assert parent not in listed(docker) and parent in listed(docker, '-a') and parent not in listed(docker, '-f', 'dangling=true')
    assert docker.ok('run', '--rm', 'child:1', 'cat', '/etc/parent', '/etc/child1') == 'parent1'
    out = docker.ok('rmi', 'child:1').split('\n')
    assert out[:2] == ['Untagged: child:1', f'Deleted: {child}'] and f'Deleted: {parent}' in out
    assert docker('inspect', parent).code == docker('inspect', child).code == 1


def test_a_parent_goes_with_its_last_child(docker, family):
    parent, commit = family
    first, second = commit('child'), commit('child', '2')
    grandchild = commit('grandchild', base='child:2')
    docker.ok('rmi', 'parent:1', 'child:2')
    assert f'Deleted: {parent}' not in docker.ok('rmi', 'child:1')
    out = docker.ok('rmi', 'grandchild:1').split('\n')
    deleted = [line[len('Deleted: '):] for line in out if line.startswith('Deleted: ')]
    assert [image for image in deleted if image in (parent, first, second, grandchild)] == [grandchild, second, parent]


def test_a_parent_that_somebody_has_stays(docker, family):
    parent, commit = family
    child = commit('child')
    docker.ok('rmi', 'parent:1')
    container = docker.ok('create', parent, 'true')
    assert f'Deleted: {parent}' not in docker.ok('rmi', 'child:1')
    docker.ok('rm', container)
    assert parent in listed(docker, '-f', 'dangling=true') and docker('inspect', child).code == 1
    docker.ok('rmi', parent)


def test_no_prune(docker, family):
    parent, commit = family
    commit('child')
    docker.ok('rmi', 'parent:1')
    assert f'Deleted: {parent}' not in docker.ok('rmi', '--no-prune', 'child:1')
    assert parent in listed(docker)
    docker.ok('rmi', parent)
