// A page's own program: the RUM web client as its documentation shows it. What is configured comes with the page.
import { AwsRum } from 'aws-rum-web';

const { monitor, region, config, credentials } = window.settings;
window.rum = new AwsRum(monitor, '1.2.3', region, config);
if (credentials) window.rum.setAwsCredentials(credentials);
