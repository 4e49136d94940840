// What users of testcontainers do. Usage: node testcontainers.js TEST IMAGE
'use strict';
const assert = require('node:assert');
const http = require('node:http');
const { GenericContainer, Network, Wait } = require('testcontainers');

const [, , wanted, image] = process.argv;
const tests = {};

function get(host, port, path) {
    return new Promise((done, fail) => {
        http.get({ host, port, path }, (answer) => {
            let text = '';
            answer.on('data', (part) => { text += part; });
            answer.on('end', () => done(text));
        }).on('error', fail);
    });
}

const serving = () => new GenericContainer(image).withCommand(['httpd', '-f', '-h', '/var/www', '-p', '80']).withExposedPorts(80);

tests.a_server_on_a_port = async () => {
    const container = await serving().start();
    const text = await get(container.getHost(), container.getMappedPort(80), '/');
    assert.strictEqual(text, 'hello from the image\n');
    await container.stop();
};

tests.wait_for_http = async () => {
    const container = await serving().withWaitStrategy(Wait.forHttp('/', 80)).start();
    await container.stop();
};

tests.wait_for_a_log_line = async () => {
    const container = await new GenericContainer(image).withCommand(['sh', '-c', 'sleep 0.3; echo ready; sleep 60'])
        .withWaitStrategy(Wait.forLogMessage('ready')).start();
    await container.stop();
};

tests.wait_for_health = async () => {
    const container = await new GenericContainer(image).withCommand(['sh', '-c', 'sleep 0.5; touch /ok; sleep 60'])
        .withHealthCheck({ test: ['CMD-SHELL', 'test -e /ok'], interval: 300, timeout: 2000, retries: 20 })
        .withWaitStrategy(Wait.forHealthCheck()).start();
    await container.stop();
};

tests.exec_and_environment = async () => {
    const container = await new GenericContainer(image).withCommand(['sleep', '60']).withEnvironment({ COLOR: 'green' }).start();
    const result = await container.exec(['sh', '-c', 'echo $COLOR; exit 2']);
    assert.strictEqual(result.output, 'green\n');
    assert.strictEqual(result.exitCode, 2);
    await container.stop();
};

tests.files_are_copied = async () => {
    const container = await new GenericContainer(image).withCommand(['sleep', '60'])
        .withCopyContentToContainer([{ content: 'written', target: '/tmp/note', mode: 0o600 }]).start();
    assert.strictEqual((await container.exec(['cat', '/tmp/note'])).output, 'written');
    await container.stop();
};

tests.a_network_with_an_alias = async () => {
    const network = await new Network().start();
    const server = await serving().withNetwork(network).withNetworkAliases('web').start();
    const client = await new GenericContainer(image).withCommand(['sleep', '60']).withNetwork(network).start();
    assert.strictEqual((await client.exec(['wget', '-qO-', 'http://web/'])).output, 'hello from the image\n');
    await client.stop();
    await server.stop();
    await network.stop();
};

tests.restart = async () => {
    const container = await serving().start();
    await container.restart();
    assert.strictEqual(await get(container.getHost(), container.getMappedPort(80), '/'), 'hello from the image\n');
    await container.stop();
};

tests.tmpfs_and_user = async () => {
    const container = await new GenericContainer(image).withCommand(['sleep', '60']).withTmpFs({ '/scratch': 'rw,size=1m' }).withUser('1000').start();
    assert.strictEqual((await container.exec(['id', '-u'])).output, '1000\n');
    assert.match((await container.exec(['grep', '/scratch', '/proc/mounts'])).output, /tmpfs \/scratch tmpfs/);
    await container.stop();
};

tests[wanted]().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
