"""docker top and docker stats."""
import json
import threading
import time

import pytest

import isolation
from conftest import Api
from engines import wait_until

of_the_host = pytest.mark.skipif(isolation.VM, reason="a guest's numbers are its machine's")


def stats(docker, name):
    return json.loads(docker.ok('stats', '--no-stream', '--format', '{{json .}}', name))


# ---- top --------------------------------------------------------------------------------------------------------------


@of_the_host
@pytest.mark.differs_today('asks a program that its root here may lack', alone=True)
def test_top_shows_the_containers_processes_alone(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'sleep 1234 & sleep 5678; true')
    wait_until(lambda: len(docker.ok('top', name).splitlines()) == 4)
    lines = docker.ok('top', name).splitlines()
    assert lines[0].split() == ['UID', 'PID', 'PPID', 'C', 'STIME', 'TTY', 'TIME', 'CMD']
    assert sorted(line.split(None, 7)[7] for line in lines[1:]) == ['sh -c sleep 1234 & sleep 5678; true', 'sleep 1234', 'sleep 5678']
    assert str(docker.inspect(name)['State']['Pid']) in [line.split()[1] for line in lines[1:]]


@of_the_host
@pytest.mark.differs_today('asks a program that its root here may lack', alone=True)
def test_top_with_columns_of_ones_own(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    assert docker.ok('top', name, '-o', 'pid,args').splitlines()[1].split(None, 1)[1] == 'sleep 1000'
    refused = docker('top', name, '-o', 'args')
    assert refused.code == 1 and 'PID' in refused.err
    refused = docker('top', name, '--no-such-option')
    assert refused.code == 1 and 'ps' in refused.err and len(refused.err.strip().splitlines()) == 1


@of_the_host
def test_top_of_one_that_does_not_run(docker, name):
    docker.ok('create', '--name', name, 'bb', 'true')
    refused = docker('top', name)
    assert refused.code == 1 and 'is not running' in refused.err


@pytest.mark.vm_only
def test_top_of_a_machine(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    refused = docker('top', name)
    assert refused.code == 1 and 'not supported yet' in refused.err


# ---- stats ------------------------------------------------------------------------------------------------------------


def test_stats_of_one_that_works(docker, name):
    docker.ok('run', '-d', '--name', name, '--memory', '64m', 'bb', 'sh', '-c', 'while :; do :; done')
    time.sleep(1)
    row = stats(docker, name)
    assert row['Name'] == name and docker.inspect(name)['Id'].startswith(row['ID'])
    assert float(row['CPUPerc'].rstrip('%')) > 10
    assert int(row['PIDs']) >= 1 and row['MemUsage'].split(' / ')[1] != '0B'


@of_the_host
def test_stats_say_the_limit_and_what_is_used(docker, name):
    docker.ok('run', '-d', '--name', name, '--memory', '64m', '--pids-limit', '50', 'bb', 'sh', '-c',
              'dd if=/dev/zero of=/dev/shm/x bs=1M count=20 2>/dev/null; echo up; sleep 1000; true')
    wait_until(lambda: docker.ok('logs', name) == 'up')
    row = stats(docker, name)
    assert row['MemUsage'].endswith(' / 64MiB') and 20 <= float(row['MemUsage'].split('MiB')[0]) < 30
    assert row['PIDs'] == '2'
    one = Api(docker.engine).get(f'/containers/{name}/stats?stream=false&one-shot=true').json
    assert one['memory_stats']['limit'] == 64 << 20 and one['pids_stats'] == {'current': 2, 'limit': 50}
    assert one.get('name') == '/' + name or docker.engine.name == 'dockerd'  # 28 forgets it of one shot
    assert one['precpu_stats']['cpu_usage']['total_usage'] == 0


@of_the_host
def test_stats_count_the_network(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    address = docker.inspect(name)['NetworkSettings']['Networks']['bridge']['IPAddress']
    before = Api(docker.engine).get(f'/containers/{name}/stats?stream=false&one-shot=true').json['networks']['eth0']
    docker.ok('run', '--rm', 'bb', 'ping', '-c', '3', '-s', '1000', '-i', '0.2', address)
    after = Api(docker.engine).get(f'/containers/{name}/stats?stream=false&one-shot=true').json['networks']['eth0']
    assert after['rx_bytes'] - before['rx_bytes'] >= 3000 and after['tx_packets'] - before['tx_packets'] >= 3


def test_stats_of_one_that_does_not_run(docker, name):
    docker.ok('create', '--name', name, 'bb', 'true')
    row = stats(docker, name)
    assert row['PIDs'] in ('0', '--') and row['CPUPerc'] in ('0.00%', '--')


def test_stats_go_on_until_the_client_leaves(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    with docker.popen('stats', '--format', '{{json .}}', name, stdout=-1, text=True) as follower:
        seen = [follower.stdout.readline() for _ in range(2)]
        follower.kill()
    assert all(name in line for line in seen)


def test_stats_of_all(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    assert name in docker.ok('stats', '--no-stream', '--format', '{{.Name}}').split()


def test_stats_of_none(docker, api):
    assert docker('stats', '--no-stream', 'nosuch').code == 1
    assert api.get('/containers/nosuch/stats?stream=false').status == 404


def test_a_rate_is_of_two_samples(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    two = Api(docker.engine).get(f'/containers/{name}/stats?stream=false').json
    assert two['preread'] < two['read'] and two['precpu_stats']['system_cpu_usage'] < two['cpu_stats']['system_cpu_usage']


def test_many_watch_and_it_goes(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    answers = []
    watchers = [threading.Thread(target=lambda: answers.append(Api(docker.engine).get(f'/containers/{name}/stats').status))
                for _ in range(5)]
    for watcher in watchers:
        watcher.start()
    time.sleep(1.5)
    docker.ok('rm', '-f', name)
    for watcher in watchers:
        watcher.join(20)
    assert answers == [200] * 5
