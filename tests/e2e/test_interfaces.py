"""What an interface of a container has beside its address: further addresses, the kernel's settings of it."""
import json

import pytest

SYSCTLS = 'com.docker.network.endpoint.sysctls'
CREATE = '/containers/create'


@pytest.fixture
def network(docker, name):
    docker.ok('network', 'create', '--ipv6', name)
    yield name
    docker('rm', '-fv', name)
    docker.ok('network', 'rm', name)


@pytest.mark.container_only('NetworkingConfig.EndpointsConfig')
@pytest.mark.new_client('knows no options of one network')
@pytest.mark.differs('passes them over')
def test_settings_and_addresses(docker, network, name):
    docker.ok('run', '-d', '--name', name, '--network', f'"name={network}","driver-opt={SYSCTLS}=net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.forwarding=0",'
              'link-local-ip=169.254.7.9,link-local-ip=fe80::77', 'bb', 'sleep', '1000')
    said = docker.ok('exec', name, 'sh', '-c', 'cat /proc/sys/net/ipv4/conf/eth0/log_martians /proc/sys/net/ipv4/conf/eth0/forwarding; ip -o addr show eth0')
    assert said.startswith('1\n0\n') and ' 169.254.7.9/16 ' in said and ' fe80::77/64 ' in said
    assert docker.inspect(name)['NetworkSettings']['Networks'][network]['IPAMConfig'] == {'LinkLocalIPs': ['169.254.7.9', 'fe80::77']}
    docker.ok('network', 'disconnect', network, name)
    docker.ok('network', 'connect', '--link-local-ip', '169.254.7.8', '--driver-opt', f'{SYSCTLS}=net.ipv4.neigh.ifname.ucast_solicit=7', network, name)
    said = docker.ok('exec', name, 'sh', '-c', 'cat /proc/sys/net/ipv4/neigh/eth*/ucast_solicit; ip -o addr')
    assert said.startswith('7\n') and ' 169.254.7.8/16 ' in said and '169.254.7.9' not in said
    docker.ok('restart', '-t', '0', name)
    assert ' 169.254.7.8/16 ' in docker.ok('exec', name, 'ip', '-o', 'addr')


@pytest.mark.differs('passes them over')
@pytest.mark.parametrize('setting', ['net.ipv4.conf.eth0.log_martians=1', 'net.ipv4.conf.IFNAME=1', 'net.unix.conf.IFNAME.x=1'])
def test_settings_of_no_interface(api, network, setting):
    answer = api.post(CREATE, {'Image': 'bb', 'HostConfig': {'NetworkMode': network}, 'NetworkingConfig': {'EndpointsConfig': {network: {'DriverOpts': {SYSCTLS: setting}}}}})
    assert answer.status == 400 and f"unrecognised network interface sysctl '{setting}'" in answer.message


@pytest.mark.berth
@pytest.mark.parametrize('setting', ['net.ipv4.conf.IFNAME.../../x=1', 'net.ipv4.../..IFNAME.x=1', 'net.ipv4.conf.IFNAME.a/b=1', 'net.ipv4.conf.IFNAME.x', ','])
def test_paths_of_settings(api, network, setting):
    answer = api.post(CREATE, {'Image': 'bb', 'NetworkingConfig': {'EndpointsConfig': {network: {'DriverOpts': {SYSCTLS: setting}}}}})
    assert answer.status == 400 and 'unrecognised network interface sysctl' in answer.message


@pytest.mark.container_only('NetworkingConfig.EndpointsConfig')
@pytest.mark.differs('passes them over')
def test_what_the_kernel_does_not_have(api, docker, network, name):
    for endpoint, words in (({'DriverOpts': {SYSCTLS: 'net.ipv4.conf.IFNAME.nosuch=1'}}, 'nosuch is not a sysctl file'),
                            ({'IPAMConfig': {'LinkLocalIPs': ['10.1.2.3']}}, 'invalid link local IP address: 10.1.2.3')):
        answer = api.post(f'{CREATE}?name={name}', {'Image': 'bb', 'HostConfig': {'NetworkMode': network}, 'NetworkingConfig': {'EndpointsConfig': {network: endpoint}}})
        if answer.status == 201:
            answer = api.post(f'/containers/{name}/start')
        assert answer.status >= 400 and words in answer.message
        docker('rm', '-f', name)
    assert json.loads(docker.ok('network', 'inspect', network))[0]['Containers'] == {}


def test_a_bridge_has_one_subnet(docker, name):
    failed = docker('network', 'create', '--subnet', '10.83.0.0/24', '--subnet', '10.84.0.0/24', name)
    assert failed.code == 1 and "bridge driver doesn't support multiple subnets" in failed.err
